"""The example of RoIInlay in a model of mmdet's: HTC whose semantic branch gets instances."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from .conftest import COCO_SAMPLE, DEVICES, ROOT
from .test_models.test_banet import make_batch, summed_losses

EXAMPLE = ROOT / 'examples' / 'htc_roi_inlay'
CONFIG = EXAMPLE / 'htc_roi_inlay_r50_fpn_1x_coco.py'
WIDTH = 32
# What makes HTC's mask features.
MASK_CONVS = [f'mask_head.{stage}.convs.0.conv.weight' for stage in range(3)]


@pytest.fixture
def htc_cfg(monkeypatch) -> Config:
    """The example's config with a narrow ResNet-18, eight things and five stuff classes."""
    monkeypatch.syspath_prepend(EXAMPLE)
    cfg = Config.fromfile(CONFIG)
    model = cfg.model
    model.backbone.merge(
        dict(depth=18, base_channels=16, stem_channels=16, frozen_stages=-1, init_cfg=None)
    )
    model.neck.merge(dict(in_channels=[16, 32, 64, 128], out_channels=WIDTH))
    model.rpn_head.merge(dict(in_channels=WIDTH, feat_channels=WIDTH))
    model.rpn_head.anchor_generator.scales = [4]
    head = model.roi_head
    for name in ('bbox_roi_extractor', 'mask_roi_extractor', 'semantic_roi_extractor'):
        head[name].out_channels = WIDTH
    for bbox_head in head.bbox_head:
        bbox_head.merge(dict(in_channels=WIDTH, fc_out_channels=64, num_classes=8))
    narrow = dict(in_channels=WIDTH, conv_out_channels=WIDTH, num_convs=1)
    for mask_head in head.mask_head:
        mask_head.merge(dict(narrow, num_classes=8))
    head.semantic_head.merge(dict(narrow, num_classes=13))
    for rcnn in model.train_cfg.rcnn:
        rcnn.sampler.num = 32
    model.train_cfg.rpn_proposal.merge(dict(nms_pre=100, max_per_img=50))
    model.test_cfg.rpn.merge(dict(nms_pre=100, max_per_img=50))
    model.test_cfg.rcnn.merge(dict(score_thr=0.0, max_per_img=10))
    head.inlay_score_thr = 0.0
    return cfg


def build(cfg: Config, train: bool = False):
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train(train)


def roi_head_gradients(model, loss: torch.Tensor) -> dict[str, float]:
    """The magnitude of a loss's gradient by parameter of the RoI head; 0 where it has none."""
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {
        name: 0.0 if parameter.grad is None else parameter.grad.abs().sum().item()
        for name, parameter in model.roi_head.named_parameters()
    }


def test_it_is_short_and_the_model_is_mmdets(htc_cfg):
    (module,) = (path for path in EXAMPLE.glob('*.py') if path != CONFIG)
    assert len(module.read_text().splitlines()) < 60
    assert type(build(htc_cfg)).__module__ == 'mmdet.models.detectors.htc'


@pytest.mark.parametrize('device', DEVICES)
def test_one_step_of_training(htc_cfg, device):
    model = build(htc_cfg, train=True).to(device)
    inputs, samples = make_batch()
    inputs, samples = inputs.to(device), [sample.to(device) for sample in samples]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    losses = summed_losses(model, inputs, samples)
    assert 'loss_semantic_inlay' in losses
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    optimizer.step()

    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
        if name.startswith(('roi_head.inlay', 'roi_head.mask_head', 'roi_head.semantic_head')):
            assert not torch.equal(parameter, before[name]), name


def test_semantic_loss_reaches_the_mask_heads_only_through_the_inlay(htc_cfg):
    model = build(htc_cfg, train=True)
    losses = summed_losses(model, *make_batch())
    fed_back = roi_head_gradients(model, losses['loss_semantic_inlay'])
    stock = roi_head_gradients(model, losses['loss_semantic_seg'])
    for name in [*MASK_CONVS, 'mask_head.2.conv_res.conv.weight', 'inlay_conv.conv.weight']:
        assert fed_back[name] > 0, name
        assert stock[name] == 0, name
    for gradients in (fed_back, stock):
        assert gradients['semantic_head.convs.0.conv.weight'] > 0


def test_all_that_stock_htc_computes_stays_the_same(htc_cfg):
    """Bitwise the losses and detections of mmdet's own RoI head with the same parameters."""
    model = build(htc_cfg)
    head = htc_cfg.model.roi_head
    head.type = 'HybridTaskCascadeRoIHead'
    del head['inlay'], head['inlay_score_thr']
    stock = build(htc_cfg)
    missing, unexpected = stock.load_state_dict(model.state_dict(), strict=False)
    assert missing == []
    assert {name.split('.')[1] for name in unexpected} == {'inlay_conv', 'inlay_logits'}

    inputs, _ = make_batch()
    losses, detections = [], []
    for net in (model, stock):
        torch.manual_seed(0)  # the samplers draw from both
        np.random.seed(0)
        losses.append(summed_losses(net.train(), inputs, make_batch()[1]))
        with torch.no_grad():
            results = net.eval().predict(inputs, make_batch()[1])
        detections.append([dict(result.pred_instances.all_items()) for result in results])
    assert losses[0].keys() - losses[1].keys() == {'loss_semantic_inlay'}
    del losses[0]['loss_semantic_inlay']
    torch.testing.assert_close(*losses, rtol=0, atol=0)
    assert all(len(image['bboxes']) for image in detections[0])
    torch.testing.assert_close(*detections, rtol=0, atol=0)


def test_images_without_objects_train(htc_cfg):
    model = build(htc_cfg, train=True)
    losses = summed_losses(model, *make_batch(num_things=(0, 0)))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_box_changes_the_semantic_logits_inside_it_only(htc_cfg):
    head = build(htc_cfg).roi_head
    x = [torch.randn(2, WIDTH, 96 // stride, 160 // stride) for stride in (4, 8, 16, 32, 64)]
    boxes = [torch.empty(0, 4), torch.tensor([[32.0, 16.0, 96.0, 64.0]])]
    with torch.no_grad():
        feat = head.semantic_head(x)[1]
        logits = head.semantic_logits(x, feat, boxes)
        changed = (logits != head.semantic_logits(x, feat, [boxes[0]] * 2)).any(dim=1)
    expected = torch.zeros(2, 12, 20, dtype=torch.bool)
    expected[1, 2:8, 4:12] = True  # the box over the stride of 8
    assert torch.equal(changed, expected)


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('detections', [True, False])
def test_predictions(htc_cfg, detections, rescale):
    if not detections:
        htc_cfg.model.test_cfg.rcnn.score_thr = 1.1
    model = build(htc_cfg)
    inputs, samples = make_batch()
    for sample in samples:  # 61x90 pixels of the input are the image, of 30x45 originally
        sample.set_metainfo(
            dict(img_shape=(61, 90), ori_shape=(30, 45), scale_factor=(90 / 45, 61 / 30))
        )
    with torch.no_grad():
        results = model.predict(inputs, samples, rescale=rescale)
    size = (30, 45) if rescale else (61, 90)
    for result in results:
        assert (len(result.pred_instances) > 0) == detections
        if detections:  # mmdet gives no masks the original size in any case
            assert result.pred_instances.masks.shape[-2:] == size
        assert result.semantic_map.sem_seg.shape == (1, *size)
        assert 0 <= result.semantic_map.sem_seg.min() <= result.semantic_map.sem_seg.max() < 13


def test_detections_under_the_threshold_are_not_inlaid(htc_cfg):
    def semantic_maps(score_thr: float, threshold: float) -> list[torch.Tensor]:
        htc_cfg.model.test_cfg.rcnn.score_thr = score_thr
        htc_cfg.model.roi_head.inlay_score_thr = threshold
        torch.manual_seed(0)
        model = build(htc_cfg)
        # Strong logits of the instances, for an effect on the classes.
        model.roi_head.inlay_conv.conv.weight.data *= 100
        with torch.no_grad():
            results = model.predict(*make_batch())
        return [result.semantic_map.sem_seg for result in results]

    none = semantic_maps(1.1, 0.0)
    assert all(torch.equal(*maps) for maps in zip(semantic_maps(0.0, 1.0), none))
    assert not all(torch.equal(*maps) for maps in zip(semantic_maps(0.0, 0.0), none))


def write_coco_with_stuff(root) -> None:
    """The sample's image in the layout of COCO instances and stuffthingmaps, for both splits."""
    panoptic = json.loads((COCO_SAMPLE / 'annotations/panoptic_val2017.json').read_text())
    (image,), (annotation,) = panoptic['images'], panoptic['annotations']
    png = COCO_SAMPLE / 'annotations/panoptic_val2017' / annotation['file_name']
    ids = rgb2id(np.asarray(Image.open(png)))
    things = {c['id']: c for c in panoptic['categories'] if c['isthing']}
    stuff_map, instances = np.full(ids.shape, 255, np.uint8), []
    for segment in annotation['segments_info']:
        mask, category = ids == segment['id'], segment['category_id']
        # Ids over 182 are classes that panoptic COCO merged; stuffthingmaps do not have them.
        stuff_map[mask] = category - 1 if category <= 182 else 255
        if category in things:
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            rle['counts'] = rle['counts'].decode()
            instances.append(segment | dict(image_id=image['id'], segmentation=rle))
    (root / 'annotations').mkdir()
    for split in ('train2017', 'val2017'):
        (root / split).symlink_to(COCO_SAMPLE / 'val2017')
        content = dict(images=[image], annotations=instances, categories=[*things.values()])
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    (root / 'stuffthingmaps' / 'train2017').mkdir(parents=True)
    Image.fromarray(stuff_map).save(root / 'stuffthingmaps/train2017' / annotation['file_name'])


@pytest.mark.slow
@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason=f'no COCO sample in {COCO_SAMPLE}')
def test_command_of_the_readme_on_a_real_image(call_tool, tmp_path, monkeypatch, capsys):
    """One iteration of the full model and its validation, at a quarter of the image's size."""
    (tmp_path / 'coco').mkdir()
    write_coco_with_stuff(tmp_path / 'coco')
    options = ['model.backbone.init_cfg=None', 'train_cfg.max_epochs=1']
    options += [
        'model.train_cfg.rpn_proposal.max_per_img=100',
        'model.test_cfg.rpn.max_per_img=100',
    ]
    options += ['model.test_cfg.rcnn.max_per_img=10']
    options += ['default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=-1']
    options += ['train_dataloader.dataset.pipeline.2.scale=(333,200)']
    options += ['val_dataloader.dataset.pipeline.1.scale=(333,200)']
    for loader in ('train', 'val'):
        options += [f'{loader}_dataloader.num_workers=0']
        options += [f'{loader}_dataloader.persistent_workers=False']
    (command,) = (
        line
        for line in (EXAMPLE / 'README.md').read_text().splitlines()
        if 'tools/train.py' in line
    )
    path, python, tool, *arguments = command.split()
    assert (path, python) == ('PYTHONPATH=examples/htc_roi_inlay', 'python')
    assert tool == 'tools/train.py'
    arguments += ['--work-dir', tmp_path / 'work', '--data-root', tmp_path / 'coco']
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(EXAMPLE)
    call_tool('train.py', *arguments, '--cfg-options', *options)
    output = ''.join(capsys.readouterr())
    assert 'loss_semantic_inlay: ' in output
    assert 'segm_mAP' in output
