"""Test-time augmentation: what it must not change, and the means that it takes."""

import copy
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmbanet.apis import evaluate
from mmbanet.engine.launch import augment_tests, replace_data_root
from mmbanet.models.detectors.panoptic_tta import _distinct, _mean_logits, _moved
from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS
from .families import narrow, occlusion_aware, panoptic_fpn, with_cascade, with_htc

SCENES = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
HEIGHT, WIDTH = 48, 72  # of the original image


def build(cfg):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    # Logits of random weights are so small that rounding decides.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'conv_logits' in name:
                parameter.mul_(30)
    return model


@pytest.fixture(scope='module')
def banet():
    return build(narrow(SCENES))


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    coarse = torch.tensor(rng.integers(0, 256, (2, 3, 8, 12)), dtype=torch.float32)
    return F.interpolate(coarse, size=(HEIGHT, WIDTH), mode='bilinear').to(torch.uint8)


def view(images, scale=4 / 3, flip=None):
    """A batch as a pipeline makes it."""
    size = round(HEIGHT * scale), round(WIDTH * scale)
    inputs = F.interpolate(images.float(), size=size, mode='bilinear').to(torch.uint8)
    if flip:
        inputs = inputs.flip(dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))[flip])
    meta = dict(
        img_shape=size,
        ori_shape=(HEIGHT, WIDTH),
        scale_factor=(size[1] / WIDTH, size[0] / HEIGHT),
        flip=flip is not None,
        flip_direction=flip,
    )
    samples = [DetDataSample(metainfo=dict(meta, img_id=i)) for i in range(len(inputs))]
    return dict(inputs=list(inputs), data_samples=samples)


def predict(model, *views):
    tta = MODELS.build(dict(type='mmbanet.PanopticTTAModel', module=model))
    data = {key: [batch[key] for batch in views] for key in views[0]}
    return tta.test_step(data)


def of_mmdets_fusion():
    cfg = panoptic_fpn()
    cfg.type = 'mmbanet.BANet'
    return build(cfg)


CASCADES = {
    'cascade': with_cascade,
    'HTC': with_htc,
    'HTC with its semantic branch': lambda cfg: with_htc(cfg, True),
}


def cascade(kind):
    return build(CASCADES[kind](occlusion_aware(panoptic_fpn())))


@pytest.mark.parametrize(
    ('kind', 'repeated'),
    [*product(['banet', 'PanopticFPN'], [1, 2, 4]), *((kind, 2) for kind in CASCADES)],
)
def test_views_that_are_all_the_same_change_no_bit(banet, images, kind, repeated):
    others = {'banet': lambda: banet, 'PanopticFPN': of_mmdets_fusion}
    model = others[kind]() if kind in others else cascade(kind)
    plain = model.test_step(view(images))
    found = predict(model, *(view(images) for _ in range(repeated)))
    assert len(found) == len(images)
    for one, other in zip(plain, found):
        assert len(one.pred_instances) > 5
        for key in ('bboxes', 'scores', 'labels', 'masks'):
            assert torch.equal(one.pred_instances[key], other.pred_instances[key]), key
        assert torch.equal(one.pred_sem_seg.sem_seg, other.pred_sem_seg.sem_seg)
        assert torch.equal(one.pred_panoptic_seg.sem_seg, other.pred_panoptic_seg.sem_seg)
        assert len(one.pred_panoptic_seg.sem_seg.unique()) > 3


@pytest.mark.parametrize('flip', ['horizontal', 'vertical', 'diagonal'])
def test_an_image_and_its_mirror_image_are_predicted_alike(banet, images, flip):
    """Of both, the views are the same: the prediction is mirrored, but for rounding."""
    axes = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))[flip]
    one = predict(banet, view(images), view(images, flip=flip))
    mirrored = images.flip(axes)
    # A view of the mirror image that is not flipped is the flipped one of the image.
    other = predict(banet, view(mirrored), view(mirrored, flip=flip))
    plain = banet.test_step(view(images)), banet.test_step(view(mirrored))

    def agreement(first, second):
        pairs = [
            (a.pred_sem_seg.sem_seg, b.pred_sem_seg.sem_seg.flip(axes))
            for a, b in zip(first, second)
        ]
        return torch.cat([(a == b).flatten() for a, b in pairs]).float().mean()

    assert agreement(*plain) < 0.9
    assert agreement(one, other) > 0.999
    for a, b in zip(one, other):
        found, expected = a.pred_instances, b.pred_instances
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
        assert (found.masks == expected.masks.flip(axes)).float().mean() > 0.99
        same = a.pred_panoptic_seg.segment_ids == b.pred_panoptic_seg.segment_ids.flip(axes)
        assert same.float().mean() > 0.95


@pytest.mark.parametrize('kind', CASCADES)
def test_masks_of_cascades_are_turned_back_once(images, kind):
    mirrored = images.flip(-1)
    model = cascade(kind)
    (one, _), (other, _) = (
        predict(model, view(x), view(x, flip='horizontal')) for x in (images, mirrored)
    )
    found, expected = one.pred_instances, other.pred_instances
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
    assert (found.masks == expected.masks.flip(-1)).float().mean() > 0.99


def test_views_of_other_sizes_have_the_original_s_size(banet, images):
    views = view(images), view(images, scale=2), view(images, scale=1, flip='horizontal')
    for sample in predict(banet, *views):
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, HEIGHT, WIDTH)
        assert sample.pred_instances.masks.shape[1:] == (HEIGHT, WIDTH)
        boxes = sample.pred_instances.bboxes
        assert boxes[:, 2].max() > 0.8 * WIDTH  # in pixels of the original image
        assert boxes[:, [0, 2]].max() <= WIDTH + 1e-3
        assert boxes[:, [1, 3]].max() <= HEIGHT + 1e-3


def test_logits_are_turned_back_and_averaged():
    meta = dict(ori_shape=(20, 30), batch_input_shape=(32, 64), img_shape=(32, 48), flip=False)
    mirrored = dict(meta, flip=True, flip_direction='horizontal')
    one, other = torch.randn(2, 1, 5, 8, 16)

    def resized(logits):
        whole = F.interpolate(logits, (32, 64), mode='bilinear')[..., :48]
        return F.interpolate(whole, (20, 30), mode='bilinear')

    mean, new_meta = _mean_logits([(one, meta), (other, mirrored)], meta)
    torch.testing.assert_close(mean, (resized(one) + resized(other).flip(-1)) / 2)
    assert new_meta['img_shape'] == new_meta['batch_input_shape'] == (20, 30)
    mean, new_meta = _mean_logits([(one, meta), (other, meta)], meta)
    torch.testing.assert_close(mean, (one + other) / 2)
    assert new_meta is meta


def test_boxes_are_moved_between_views():
    small = dict(img_shape=(32, 48), scale_factor=(2.0, 2.0), flip=False)
    large = dict(
        img_shape=(64, 96), scale_factor=(4.0, 4.0), flip=True, flip_direction='horizontal'
    )
    box = torch.tensor([[4.0, 6.0, 10.0, 8.0]])
    assert _moved(box, small, large).tolist() == [[96 - 20, 12, 96 - 8, 16]]
    assert torch.equal(_moved(_moved(box, small, large), large, small), box)
    pair = box.repeat(1, 2)  # of two classes
    assert _moved(pair, small, large).tolist() == [[76, 12, 88, 16] * 2]


def test_proposals_are_distinct_and_in_order():
    boxes = torch.tensor([[3, 3, 3, 3], [1, 1, 1, 1], [3, 3, 3, 3], [2, 2, 2, 2.0]])
    found = _distinct(boxes, torch.tensor([0.5, 0.9, 0.7, 0.7]))
    assert found[:, 0].tolist() == [1, 3, 2]
    assert _distinct(boxes[:0], torch.zeros(0)).shape == (0, 4)


def test_without_detections(banet, images):
    model = build(narrow(SCENES))
    model.test_cfg.rcnn.score_thr = model.roi_head.test_cfg.score_thr = 2.0
    for sample in predict(model, view(images), view(images, flip='horizontal')):
        assert len(sample.pred_instances) == 0
        assert sample.pred_panoptic_seg.sem_seg.shape == (1, HEIGHT, WIDTH)


def test_what_cannot_be_averaged_is_refused(banet, images):
    with pytest.raises(TypeError, match=r'mmbanet\.BANet .*got PanopticFPN'):
        MODELS.build(dict(type='mmbanet.PanopticTTAModel', module=panoptic_fpn()))
    upsnet = narrow(CONFIGS / 'upsnet' / 'upsnet_r18_fpn_dfm_scenes.py')
    with pytest.raises(TypeError, match='LogitFusionHead looks into the mask branch'):
        MODELS.build(dict(type='mmbanet.PanopticTTAModel', module=upsnet))
    aunet = narrow(CONFIGS / 'aunet' / 'aunet_r18_fpn_scenes.py')
    with pytest.raises(TypeError, match='AttentionSemanticHead looks into the mask branch'):
        MODELS.build(dict(type='mmbanet.PanopticTTAModel', module=aunet))
    scoring = narrow(SCENES)
    scoring.roi_head.type = 'MaskScoringRoIHead'
    scoring.roi_head.mask_iou_head = dict(type='MaskIoUHead', in_channels=64, num_classes=8)
    with pytest.raises(TypeError, match='MaskScoringRoIHead scores detections by their masks'):
        MODELS.build(dict(type='mmbanet.PanopticTTAModel', module=scoring))
    with pytest.raises(ValueError, match='one view of the image must not be flipped'):
        predict(banet, view(images, flip='vertical'))
    unsaid = view(images)
    for sample in unsaid['data_samples']:
        sample.set_metainfo(dict(sample.metainfo))
        del sample.flip
    with pytest.raises(ValueError, match='must have flip and flip_direction'):
        predict(banet, unsaid, view(images))


def test_a_test_of_the_runner(tmp_path):
    """As ``tools/test.py --tta``; the same image twice gives the metrics of a plain test."""
    root = generate_scenes(tmp_path / 'scenes', train=0, val=2, size=64)
    config = Config.fromfile(SCENES)
    config.model = narrow(SCENES)
    replace_data_root(config, str(root))
    config.work_dir = str(tmp_path / 'work')
    config.merge_from_dict(
        {
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
            'test_dataloader.batch_size': 2,
            'test_evaluator': config.test_evaluator[:1],
        }
    )
    checkpoint = tmp_path / 'model.pth'
    torch.save(dict(state_dict=build(narrow(SCENES)).state_dict()), checkpoint)
    plain = evaluate(config, checkpoint)
    same, flipped = copy.deepcopy(config), copy.deepcopy(config)
    *steps, pack = config.test_dataloader.dataset.pipeline
    keys = (*pack.meta_keys, 'flip', 'flip_direction')
    twice = [dict(type='RandomFlip', prob=0.0)] * 2
    views = dict(type='TestTimeAug', transforms=[twice, [dict(pack, meta_keys=keys)]])
    same.tta_pipeline = [*steps, views]
    same.tta_model = dict(type='mmbanet.PanopticTTAModel')
    augment_tests(same)
    augment_tests(flipped)
    assert evaluate(same, checkpoint) == plain
    assert evaluate(flipped, checkpoint) != plain
