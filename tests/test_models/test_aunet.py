"""AUNet: attention of the semantic head, as a part of BANet by config alone."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import load_checkpoint

from mmbanet.models.roi import gt_boxes

from ..conftest import CONFIGS, DEVICES, run_on_two_ranks
from .families import panoptic_fpn, with_cascade
from .test_banet import make_batch, summed_losses

LOSSES = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask', 'loss_seg'}
FEATURES = dict(source='features', foreground_channels=64, se_ratio=4)
NONE = dict(pam=None, mam=None)
ONLY_PAM, ONLY_MAM, OF_FEATURES = dict(mam=None), dict(pam=None), dict(mam=FEATURES)
VARIANTS = [{}, ONLY_PAM, ONLY_MAM, OF_FEATURES, NONE]


def make_cfg(**changes):
    """The small AUNet, with thresholds that random weights pass."""
    cfg = Config.fromfile(CONFIGS / 'aunet' / 'aunet_r18_fpn_scenes.py').model
    cfg.semantic_head.update(changes)
    cfg.test_cfg.rcnn.merge(dict(score_thr=0.0, max_per_img=10))
    cfg.test_cfg.panoptic.stuff_area_limit = 1
    return cfg


def build(cfg, train: bool = False):
    model = MODELS.build(cfg)
    model.init_weights()
    return model.train(train)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@pytest.mark.parametrize('num_things', [(3, 2), (3, 0), (0, 0)])
def test_every_parameter_is_used_with_and_without_things(variant, num_things, device):
    model = build(make_cfg(**variant), train=True).to(device)
    inputs, samples = make_batch(num_things)
    losses = summed_losses(model, inputs.to(device), [sample.to(device) for sample in samples])
    assert set(losses) == LOSSES
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    if num_things == (3, 2):
        for name, parameter in model.semantic_head.named_parameters():
            assert parameter.grad.any(), name


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_semantic_loss_reaches_rpn_and_mask_head(variant):
    model = build(make_cfg(**variant), train=True)
    summed_losses(model, *make_batch())['loss_seg'].backward()
    rpn, masks = model.rpn_head.rpn_conv.weight, model.roi_head.mask_head.convs[0].conv.weight
    assert (rpn.grad is not None and rpn.grad.any()) == (model.semantic_head.pam is not None)
    assert (masks.grad is not None and masks.grad.any()) == (model.semantic_head.mam is not None)


def seen_by_the_head(model, monkeypatch) -> dict:
    seen = {}
    forward = model.semantic_head.forward

    def spy(x, **foreground):
        seen.update(foreground, x=x)
        return forward(x, **foreground)

    monkeypatch.setattr(model.semantic_head, 'forward', spy)
    return seen


def expected_masks(model, x, rois, labels):
    """Mask logits (K, 1, m, m), and what the predictor sees, by the mask branch's own parts."""
    head = model.roi_head.mask_head
    feats = model.roi_head.mask_roi_extractor(x[:4], rois)
    for conv in head.convs:
        feats = conv(feats)
    feats = F.relu(head.upsample(feats))
    logits = head.conv_logits(feats)
    return torch.stack([logits[i, label] for i, label in enumerate(labels)])[:, None], feats


@torch.no_grad()
@pytest.mark.parametrize('mam', [dict(source='scores'), FEATURES], ids=str)
def test_training_shows_ground_truth_boxes_with_predicted_masks(mam, monkeypatch):
    model = build(make_cfg(mam=mam), train=True)
    model.train_cfg.mam.gt_share = (1.0, 1.0)
    monkeypatch.setattr(gt_boxes.torch, 'randperm', torch.arange)
    seen = seen_by_the_head(model, monkeypatch)
    inputs, samples = make_batch()
    model.loss(inputs, samples)
    rois = bbox2roi([sample.gt_instances.bboxes for sample in samples])
    assert torch.equal(seen['rois'], rois)
    labels = torch.cat([sample.gt_instances.labels for sample in samples])
    logits, feats = expected_masks(model, seen['x'], rois, labels)
    expected = logits if mam['source'] == 'scores' else feats
    torch.testing.assert_close(seen['masks'], expected)
    for level, feature in zip(seen['x'][:4], seen['rpn_features'], strict=True):
        conv = model.rpn_head.rpn_conv
        expected = F.conv2d(level, conv.weight, conv.bias, padding=1).clamp(min=0)
        torch.testing.assert_close(feature, expected)


@torch.no_grad()
def test_a_share_of_the_ground_truth_keeps_masks_at_their_boxes(monkeypatch):
    model = build(make_cfg(), train=True)
    model.train_cfg.mam.gt_share = (0.5, 0.5)
    seen = seen_by_the_head(model, monkeypatch)
    inputs, samples = make_batch((4, 2))
    model.loss(inputs, samples)
    assert seen['rois'][:, 0].tolist() == [0, 0, 1]
    for roi, mask in zip(seen['rois'], seen['masks']):
        truth = samples[int(roi[0])].gt_instances
        (index,) = (truth.bboxes == roi[1:]).all(1).nonzero()[:, 0]
        logits, _ = expected_masks(model, seen['x'], roi[None], truth.labels[index][None])
        torch.testing.assert_close(mask, logits[0])


@torch.no_grad()
@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('mam', [dict(source='scores'), FEATURES], ids=str)
def test_prediction_shows_the_detections_in_the_input_frame(mam, rescale, monkeypatch):
    model = build(make_cfg(mam=mam))
    seen = seen_by_the_head(model, monkeypatch)
    inputs, samples = make_batch()
    for sample in samples:  # the original image is twice as large
        sample.set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    results = model.predict(inputs, samples, rescale=rescale)
    boxes = [result.pred_instances.bboxes * (0.5 if rescale else 1) for result in results]
    rois = bbox2roi(boxes)
    assert len(rois) > 2
    torch.testing.assert_close(seen['rois'], rois)
    labels = torch.cat([result.pred_instances.labels for result in results])
    logits, feats = expected_masks(model, seen['x'], seen['rois'], labels)
    expected = logits if mam['source'] == 'scores' else feats
    torch.testing.assert_close(seen['masks'], expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_only_detections_that_go_to_fusion_are_shown(monkeypatch):
    cfg = make_cfg()
    path = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_occlusion_aware_r18_fpn_scenes.py'
    ours = Config.fromfile(path).model
    cfg.panoptic_fusion_head = ours.panoptic_fusion_head
    cfg.test_cfg.panoptic = ours.test_cfg.panoptic
    model = build(cfg)
    inputs, samples = make_batch()
    scores = model.predict(inputs, samples)[0].pred_instances.scores
    threshold = scores.sort().values[-4].item()
    model.test_cfg.panoptic.update(score_thr=threshold, nms=None)
    seen = seen_by_the_head(model, monkeypatch)
    results = model.predict(inputs, samples)
    counts = [(item.pred_instances.scores > threshold).sum().item() for item in results]
    assert 0 < counts[0] < len(scores)
    assert seen['rois'][:, 0].long().bincount().tolist()[: len(counts)] == [n for n in counts if n]


@torch.no_grad()
@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@pytest.mark.parametrize('score_thr', [0.0, 1.0])
def test_predicts_with_and_without_detections(variant, score_thr):
    cfg = make_cfg(**variant)
    cfg.test_cfg.rcnn.score_thr = score_thr
    model = build(cfg)
    inputs, samples = make_batch()
    first, second = (
        [item.pred_panoptic_seg.sem_seg for item in model.predict(inputs, samples)]
        for _ in range(2)
    )
    for one, other in zip(first, second):
        assert one.shape == (1, 64, 96)
        assert torch.equal(one, other)
    *_, logits = model(inputs, samples, mode='tensor')
    assert logits.shape == (2, 6, 16, 24)


@torch.no_grad()
def test_given_proposals_need_no_run_of_the_rpn():
    model = build(make_cfg())
    inputs, samples = make_batch()
    for sample in samples:
        sample.proposals = sample.gt_instances
    assert all('pred_panoptic_seg' in item for item in model.predict(inputs, samples))


def test_checkpoint_of_panoptic_fpn_lacks_the_attention_alone(tmp_path):
    theirs = MODELS.build(panoptic_fpn())
    ours = MODELS.build(make_cfg())
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert unexpected == []
    assert {name.split('.')[1] for name in missing} == {'pam', 'mam'}
    plain = MODELS.build(make_cfg(**NONE))
    torch.save(dict(state_dict=theirs.state_dict()), tmp_path / 'panoptic_fpn.pth')
    load_checkpoint(plain, str(tmp_path / 'panoptic_fpn.pth'), strict=True)


def train_one_rank() -> dict:
    init_default_scope('mmdet')
    torch.distributed.init_process_group('gloo')
    torch.manual_seed(0)
    model = build(make_cfg(), train=True)
    parallel = MMDistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    rank = torch.distributed.get_rank()
    for _ in range(2):
        inputs, samples = make_batch((3, 2) if rank == 0 else (0, 0))
        losses = parallel(inputs, samples, mode='loss')
        optimizer.zero_grad()
        sum(
            sum(v) if isinstance(v, list) else v for k, v in losses.items() if 'loss' in k
        ).backward()
        optimizer.step()
    return dict(model.named_parameters())


@pytest.mark.slow
def test_two_ranks_of_which_one_has_no_things(tmp_path):
    first, second = run_on_two_ranks(train_one_rank, tmp_path)
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


def banet_with_attention():
    """BANet's two paths around AUNet's head."""
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py').model
    cfg.semantic_head = make_cfg(semantic_layout='all', mam=None).semantic_head
    return cfg


def without_i2s():
    cfg = banet_with_attention()
    cfg.pop('i2s_head')
    return cfg


def without_rpn():
    cfg = make_cfg()
    cfg.rpn_head = dict(
        type='FCOSHead',
        num_classes=1,
        in_channels=64,
        feat_channels=8,
        stacked_convs=1,
        norm_cfg=None,
    )
    return cfg


def without_share():
    cfg = make_cfg()
    cfg.train_cfg.pop('mam')
    return cfg


def of_stride_8():
    cfg = make_cfg(num_levels=3)
    cfg.neck.merge(dict(start_level=1, num_outs=4))
    cfg.rpn_head.anchor_generator.strides = [8, 16, 32, 64]
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        cfg.roi_head[name].featmap_strides = [8, 16, 32]
    return cfg


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (banet_with_attention, 'leaves no place for S2I'),
        (without_i2s, 'leaves no place for S2I'),
        (lambda: with_cascade(make_cfg()), 'takes mask logits, which a StandardRoIHead'),
        (without_rpn, 'needs the features of an RPN, .* got FCOSHead'),
        (lambda: make_cfg(pam=dict(foreground_channels=9)), r'pam.foreground_channels: 9, .* 64'),
        (
            lambda: make_cfg(mam=dict(FEATURES, foreground_channels=9)),
            r'mam.foreground_channels: 9, .* has 64',
        ),
        (without_share, 'gt_share'),
        (of_stride_8, 'at a stride of 4, but the finest level has 8'),
    ],
)
def test_combinations_that_cannot_work_are_refused(cfg, message):
    with pytest.raises((TypeError, ValueError), match=message):
        MODELS.build(cfg())


@torch.no_grad()
def test_proposal_attention_works_with_a_cascade():
    model = build(with_cascade(make_cfg(mam=None)))
    inputs, samples = make_batch()
    assert all('pred_panoptic_seg' in item for item in model.predict(inputs, samples))
