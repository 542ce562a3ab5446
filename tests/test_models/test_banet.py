import weakref

import pytest
import torch
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.registry import MODELS

from mmbanet.models.detectors.input_images import rgb_images
from mmbanet.models.roi.gt_boxes import sample_gt_boxes

from ..conftest import CONFIGS, DEVICES, make_sample

LOSSES = {
    'loss_rpn_cls',
    'loss_rpn_bbox',
    'loss_cls',
    'loss_bbox',
    'loss_mask',
    'loss_seg',
    'loss_i2s',
}
PLAIN_EXTRACTORS = {
    f'model.roi_head.{branch}_roi_extractor': dict(
        _delete_=True,
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
        out_channels=64,
        featmap_strides=[4, 8, 16, 32],
        finest_scale=14,
    )
    for branch, size in (('bbox', 7), ('mask', 14))
}


def build(cfg: Config, train: bool = False):
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model.train(train)


def make_batch(num_things=(3, 2)) -> tuple[torch.Tensor, list]:
    samples = [make_sample(num_things=n, seed=i) for i, n in enumerate(num_things)]
    return torch.randn(len(samples), 3, 64, 96), samples


def summed_losses(model, inputs, samples) -> dict[str, torch.Tensor]:
    losses = model(inputs, samples, mode='loss')
    return {
        name: sum(value) if isinstance(value, list) else value
        for name, value in losses.items()
        if 'loss' in name
    }


def plain_panoptic_fpn(cfg: Config, detector: str) -> Config:
    """The small model with every part of BANet replaced by PanopticFPN's."""
    cfg = cfg.copy()
    cfg.model.pop('i2s_head')
    cfg.model.train_cfg.pop('i2s')
    cfg.merge_from_dict(
        {
            'model.type': detector,
            'model.roi_head.mask_head.type': 'FCNMaskHead',
            'model.semantic_head': dict(
                _delete_=True,
                type='PanopticFPNHead',
                num_things_classes=8,
                num_stuff_classes=5,
                in_channels=64,
                inner_channels=32,
                norm_cfg=dict(type='GN', num_groups=8),
                loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
            ),
            'model.panoptic_fusion_head.type': 'HeuristicFusionHead',
            'model.test_cfg.panoptic': dict(_delete_=True, mask_overlap=0.5, stuff_area_limit=16),
            **PLAIN_EXTRACTORS,
        }
    )
    return cfg


@pytest.mark.parametrize('device', DEVICES)
def test_seven_finite_losses_and_a_gradient_in_every_parameter(small_cfg, device):
    model = build(small_cfg, train=True).to(device)
    inputs, samples = make_batch()
    losses = summed_losses(model, inputs.to(device), [sample.to(device) for sample in samples])
    assert set(losses) == LOSSES
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    for part in ('semantic_head', 'i2s_head', 'roi_head.mask_head', 'roi_head.bbox_roi_extractor'):
        for name, parameter in model.get_submodule(part).named_parameters():
            assert parameter.grad.abs().sum() > 0, f'{part}.{name}'


@pytest.mark.parametrize('void', [False, True])
@pytest.mark.parametrize('num_things', [(0, 0), (3, 0)])
def test_images_without_things_leave_no_parameter_without_gradient(small_cfg, num_things, void):
    model = build(small_cfg, train=True)
    inputs, samples = make_batch(num_things)
    if void:
        for sample in samples:
            sample.gt_sem_seg.sem_seg[:] = 255
    losses = summed_losses(model, inputs, samples)
    assert set(losses) == LOSSES
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_semantic_loss_reaches_the_mask_branch_through_i2s(small_cfg):
    model = build(small_cfg, train=True)
    summed_losses(model, *make_batch())['loss_i2s'].backward()
    assert model.roi_head.mask_head.convs[0].conv.weight.grad.abs().sum() > 0
    assert model.roi_head.mask_roi_extractor.phi.weight.grad.abs().sum() > 0


def test_semantic_loss_reaches_f_s_through_sim(small_cfg):
    """Without S2I there is no other way."""
    small_cfg.merge_from_dict(PLAIN_EXTRACTORS)
    model = build(small_cfg, train=True)
    summed_losses(model, *make_batch())['loss_i2s'].backward()
    assert all(weight.grad is not None for weight in model.semantic_head.subnet.parameters())
    assert model.semantic_head.subnet[0].conv.weight.grad.any()


def test_i2s_learns_on_a_share_of_the_boxes_of_each_image(small_cfg, monkeypatch):
    small_cfg.model.train_cfg.i2s.gt_share = (0.5, 0.5)
    model = build(small_cfg, train=True)
    inputs, samples = make_batch((4, 2))
    seen = []

    def spy_i2s(semantic, instances, rois, data_samples, loss=model.i2s_head.loss):
        seen.append(rois)
        return loss(semantic, instances, rois, data_samples)

    monkeypatch.setattr(model.i2s_head, 'loss', spy_i2s)
    summed_losses(model, inputs, samples)
    (rois,) = seen
    for i, (sample, count) in enumerate(zip(samples, (2, 1))):
        own = rois[rois[:, 0] == i, 1:].tolist()
        assert len(own) == count
        assert all(box in sample.gt_instances.bboxes.tolist() for box in own)


def test_the_pyramid_is_let_go_before_i2s(small_cfg):
    """Or it would count at the peak of memory."""
    model, levels, alive = build(small_cfg), [], []
    model.neck.register_forward_hook(lambda *call: levels.extend(map(weakref.ref, call[-1])))
    model.i2s_head.sim.register_forward_pre_hook(
        lambda *_: alive.extend(level() is not None for level in levels)
    )
    with torch.no_grad():
        model(*make_batch(), mode='predict')
    assert levels
    assert not any(alive)


@pytest.mark.parametrize(
    'rival', [None, 'upsnet/upsnet_r18_fpn_dfm_scenes.py', 'oanet/oanet_r18_fpn_scenes.py']
)
def test_semantics_need_not_be_padded_for_the_losses(small_cfg, rival):
    if rival is not None:
        small_cfg = Config.fromfile(CONFIGS / rival)
    found = []
    for pad_seg in (True, False):
        small_cfg.model.data_preprocessor.pad_seg = pad_seg
        torch.manual_seed(0)
        model = build(small_cfg, train=True)
        samples = [make_sample(50, 80), make_sample(60, 70)]
        inputs = [torch.zeros(3, *x.img_shape, dtype=torch.uint8) for x in samples]
        batch = model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)
        assert batch['inputs'].shape[2:] == (64, 96)
        found.append(summed_losses(model, batch['inputs'], batch['data_samples']))
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize('device', DEVICES)
def test_predictions_for_ap_miou_and_pq(small_cfg, device):
    small_cfg.model.test_cfg.rcnn.score_thr = 0.0
    small_cfg.model.test_cfg.panoptic.score_thr = 0.12
    model = build(small_cfg).to(device)
    inputs, samples = make_batch()
    inputs = inputs.to(device)
    for sample in samples:  # the original image is twice as large
        sample.set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    with torch.no_grad():
        results = model(inputs, samples, mode='predict')
    for result in results:
        assert len(result.pred_instances) > 0
        assert result.pred_instances.masks.shape[1:] == (128, 192)
        assert result.pred_sem_seg.sem_seg.shape == (1, 128, 192)
        assert result.pred_sem_seg.sem_seg.max() < 13
        assert result.pred_panoptic_seg.sem_seg.shape == (1, 128, 192)


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('score_thr', [0.0, 1.0])
def test_size_of_results_with_and_without_detections(small_cfg, score_thr, rescale):
    small_cfg.model.test_cfg.rcnn.score_thr = score_thr
    small_cfg.model.test_cfg.panoptic.score_thr = 0.12
    model = build(small_cfg)
    inputs, samples = make_batch()
    for sample in samples:
        sample.set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    with torch.no_grad():
        results = model.predict(inputs, samples, rescale=rescale)
    size = (1, 128, 192) if rescale else (1, 64, 96)
    for result in results:
        assert (len(result.pred_instances) == 0) == (score_thr == 1.0)
        assert result.pred_panoptic_seg.sem_seg.shape == size
        assert result.pred_sem_seg.sem_seg.shape == size


def test_images_of_several_sizes_in_one_batch_do_not_touch_each_other(small_cfg):
    small_cfg.model.test_cfg.rcnn.score_thr = 0.0
    small_cfg.model.test_cfg.panoptic.merge(dict(score_thr=0.12, stuff_area_limit=16))
    model = build(small_cfg)
    for head in (model.semantic_head, model.i2s_head):
        head.conv_logits.weight.data.mul_(100)  # a map with several classes
    inputs, samples = make_batch()
    samples[0].set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    samples[1].set_metainfo(
        dict(img_shape=(48, 70), ori_shape=(96, 210), scale_factor=(1 / 3, 0.5))
    )
    inputs[1, :, 48:] = 0
    inputs[1, :, :, 70:] = 0
    with torch.no_grad():
        together = model(inputs, [sample.clone() for sample in samples], mode='predict')
        for i, result in enumerate(together):
            (alone,) = model(inputs[i : i + 1], [samples[i].clone()], mode='predict')
            assert result.pred_sem_seg.sem_seg.unique().numel() > 2
            for name in ('pred_sem_seg', 'pred_panoptic_seg'):
                a, b = result.get(name).sem_seg, alone.get(name).sem_seg
                assert a.shape[1:] == samples[i].ori_shape
                # Rounding differs between batch sizes, and may turn single pixels.
                assert (a != b).float().mean() < 0.002


def family(small_cfg, name):
    """A small model whose detections go to fusion, with or without the paths of BANet."""
    if name == 'without paths':
        small_cfg = plain_panoptic_fpn(small_cfg, 'mmbanet.BANet')
    else:
        small_cfg.model.test_cfg.panoptic.score_thr = 0.12
    small_cfg.model.test_cfg.rcnn.score_thr = 0.0
    small_cfg.model.test_cfg.panoptic.stuff_area_limit = 16
    model = build(small_cfg)
    for head in (model.semantic_head, model.i2s_head):
        if head is not None:
            head.conv_logits.weight.data.mul_(100)  # a map with several classes
    return model


@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('name', ['BANet', 'without paths'])
def test_padding_of_the_pipeline_is_not_part_of_the_image(small_cfg, name, rescale):
    """mmdet's Pad gives img_shape with its padding, but the original image has none."""
    model = family(small_cfg, name)
    inputs, samples = make_batch()
    inputs[1, :, 40:], inputs[1, :, :, 70:] = 0, 0
    original = dict(ori_shape=(80, 210), scale_factor=(1 / 3, 0.5))
    results = {}
    for key, img_shape in (('without', (40, 70)), ('padded', (64, 96)), ('to 24', (48, 72))):
        samples[1].set_metainfo(dict(original, img_shape=img_shape))
        with torch.no_grad():
            results[key] = model.predict(inputs, [x.clone() for x in samples], rescale)
        assert samples[1].img_shape == img_shape
    for i, size in enumerate([(64, 96), (80, 210) if rescale else (40, 70)]):
        expected = results['without'][i]
        assert len(expected.pred_instances) > 0
        assert expected.pred_sem_seg.sem_seg.unique().numel() > 1
        for key in ('padded', 'to 24'):
            found = results[key][i]
            for field in ('bboxes', 'labels', 'scores', 'masks'):
                assert torch.equal(found.pred_instances[field], expected.pred_instances[field])
            for field in ('pred_sem_seg', 'pred_panoptic_seg'):
                assert found.get(field).sem_seg.shape == (1, *size)
                assert torch.equal(found.get(field).sem_seg, expected.get(field).sem_seg)


def test_raw_outputs_do_not_see_the_padding_of_the_pipeline(small_cfg):
    model = family(small_cfg, 'BANet')
    inputs, samples = make_batch((3,))
    original = dict(ori_shape=(80, 210), scale_factor=(1 / 3, 0.5))
    outputs = []
    for img_shape in ((40, 70), (64, 96)):
        samples[0].set_metainfo(dict(original, img_shape=img_shape))
        with torch.no_grad():
            outputs.append(model(inputs, samples, mode='tensor')[-1])
    assert torch.equal(*outputs)


def test_boxes_of_i2s_are_those_of_fusion_in_the_input_frame(small_cfg, monkeypatch):
    small_cfg.model.test_cfg.panoptic.score_thr = 0.12
    small_cfg.model.test_cfg.rcnn.score_thr = 0.0
    model = build(small_cfg)
    inputs, samples = make_batch((3,))
    samples[0].set_metainfo(dict(ori_shape=(128, 288), scale_factor=(1 / 3, 0.5)))
    seen = {}

    def spy_i2s(semantic, instances, rois, shapes, forward=model.i2s_head.forward):
        seen['rois'] = rois
        return forward(semantic, instances, rois, shapes)

    monkeypatch.setattr(model.i2s_head, 'forward', spy_i2s)
    with torch.no_grad():
        (sample,) = model(inputs, samples, mode='predict')
    fused = sample.pred_instances[sample.pred_panoptic_seg.detections]
    assert 0 < len(fused) < len(sample.pred_instances)
    expected = bbox2roi([fused.bboxes / torch.tensor([3.0, 2.0, 3.0, 2.0])])
    torch.testing.assert_close(seen['rois'], expected)


def test_with_all_parts_left_out_it_is_panoptic_fpn(small_cfg):
    ours = build(plain_panoptic_fpn(small_cfg, 'mmbanet.BANet'))
    theirs = build(plain_panoptic_fpn(small_cfg, 'PanopticFPN'))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)

    inputs, samples = make_batch()
    with torch.no_grad():
        for logits in (ours.semantic_head.conv_logits, theirs.semantic_head.conv_logits):
            logits.weight.mul_(100)  # a map with several classes
        expected = theirs(inputs, [sample.clone() for sample in samples], mode='predict')
        got = ours(inputs, [sample.clone() for sample in samples], mode='predict')
    for a, b in zip(got, expected):
        assert b.pred_panoptic_seg.sem_seg.unique().numel() > 2
        assert torch.equal(a.pred_panoptic_seg.sem_seg, b.pred_panoptic_seg.sem_seg)

    losses = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        losses.append(summed_losses(model.train(), inputs, samples))
    assert losses[0].keys() == losses[1].keys()
    for name, loss in losses[0].items():
        assert torch.equal(loss, losses[1][name]), name


@pytest.mark.parametrize('left_out', ['s2i', 'i2s', 'both'])
def test_each_path_can_be_left_out(small_cfg, left_out):
    names = set(LOSSES)
    if left_out in ('i2s', 'both'):
        small_cfg.model.pop('i2s_head')
        names.discard('loss_i2s')
    if left_out in ('s2i', 'both'):
        small_cfg.merge_from_dict(PLAIN_EXTRACTORS)
    model = build(small_cfg, train=True)
    assert model.with_i2s == (left_out == 's2i')
    assert model.with_s2i == (left_out == 'i2s')
    losses = summed_losses(model, *make_batch())
    assert set(losses) == names
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    with torch.no_grad():
        assert 'pred_panoptic_seg' in model.eval()(*make_batch(), mode='predict')[0]


def test_roi_upsample_in_place_of_roi_inlay(small_cfg):
    small_cfg.merge_from_dict({'model.i2s_head.inlay.type': 'mmbanet.RoIUpsample'})
    model = build(small_cfg, train=True)
    assert torch.isfinite(summed_losses(model, *make_batch())['loss_i2s'])


def test_raw_outputs(small_cfg):
    model = build(small_cfg)
    with torch.no_grad():
        outputs = model(*make_batch(), mode='tensor')
    assert outputs[-1].shape == (2, 13, 16, 24)


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'model.roi_head.mask_head.type': 'FCNMaskHead'}, 'InstanceFeatureMaskHead'),
        ({'model.i2s_head.semantic_channels': 99}, r'semantic_channels: 99, .* has 128'),
        ({'model.i2s_head.instance_channels': 99}, r'instance_channels: 99, .* has 64'),
        ({'model.i2s_head.stride': 8}, r'i2s_head\.stride: 8, .* which is 4'),
        (
            {'model.roi_head.bbox_roi_extractor.semantic_stride': 2},
            r'roi_head\.bbox_roi_extractor\.semantic_stride: 2, .* which is 4',
        ),
        (
            {
                'model.semantic_head': dict(
                    _delete_=True,
                    type='PanopticFPNHead',
                    num_things_classes=8,
                    num_stuff_classes=5,
                    in_channels=64,
                    inner_channels=32,
                )
            },
            'SemanticFeatureHead',
        ),
    ],
)
def test_combinations_that_cannot_work_are_refused(small_cfg, overrides, message):
    small_cfg.merge_from_dict(overrides)
    with pytest.raises((TypeError, ValueError), match=message):
        MODELS.build(small_cfg.model)


@pytest.mark.parametrize('test_cfg', [None, dict(rpn={}, rcnn={})])
def test_missing_settings_of_fusion(small_cfg, test_cfg):
    small_cfg.model.test_cfg = test_cfg
    with pytest.raises(TypeError, match=r'test_cfg\.panoptic is missing'):
        MODELS.build(small_cfg.model)


def test_missing_share_of_boxes(small_cfg):
    small_cfg.model.train_cfg.pop('i2s')
    with pytest.raises(ValueError, match='gt_share'):
        MODELS.build(small_cfg.model)


@pytest.mark.parametrize('share', [0.8, [60, 100], [1.0, 0.6], [0.6]])
def test_shares_of_boxes_that_are_none(small_cfg, share):
    small_cfg.model.train_cfg.i2s.gt_share = share
    with pytest.raises(ValueError, match=r'train_cfg\.i2s: .* in 0\.\.1, such as .*, got'):
        MODELS.build(small_cfg.model)


def test_unknown_component(small_cfg):
    small_cfg.merge_from_dict({'model.i2s_head.inlay.type': 'mmbanet.RoIInlya'})
    with pytest.raises(KeyError, match=r'mmbanet\.RoIInlya'):
        MODELS.build(small_cfg.model)


def test_share_of_ground_truth_boxes():
    boxes = [torch.arange(40.0).reshape(10, 4), torch.rand(1, 4), torch.zeros(0, 4)]
    counts = set()
    for _ in range(200):
        many, one, none = sample_gt_boxes(boxes, (0.6, 1.0))
        counts.add(len(many))
        assert len(one) == 1
        assert len(none) == 0
        rows = {tuple(row) for row in many.tolist()}
        assert len(rows) == len(many)
        assert rows <= {tuple(row) for row in boxes[0].tolist()}
    assert counts == {6, 7, 8, 9, 10}
    # Of a share that rounds to none, one is left.
    assert [len(kept) for kept in sample_gt_boxes(boxes, (0.0, 0.04))] == [1, 1, 0]


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_rgb_is_what_was_loaded(small_cfg, bgr_to_rgb):
    small_cfg.model.data_preprocessor.bgr_to_rgb = bgr_to_rgb
    model = build(small_cfg)
    sample = make_sample(60, 90)
    bgr = torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8)
    data = model.data_preprocessor(dict(inputs=[bgr], data_samples=[sample]))
    assert data['inputs'].shape[-2:] == (64, 96)
    metas = [sample.metainfo]
    (rgb,) = rgb_images(data['inputs'], model.data_preprocessor, metas, rescale=False)
    torch.testing.assert_close(rgb, bgr.flip(0).float(), rtol=0, atol=1e-3)
    sample.set_metainfo(dict(ori_shape=(30, 45)))
    (rgb,) = rgb_images(data['inputs'], model.data_preprocessor, [sample.metainfo], rescale=True)
    assert rgb.shape == (3, 30, 45)
