"""Occlusion handling in mmdet's model families, end to end, by config alone."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

from ..conftest import CONFIGS, make_sample
from . import families
from .families import COUNTS, occlusion_aware, panoptic_fpn

SHIPPED = sorted(
    path
    for folder in ('panoptic_fpn', 'cascade_mask_rcnn', 'htc', 'instance_semantic_fusion')
    for path in (CONFIGS / folder).glob('*.py')
)
SIZES = [(128, 192), (96, 140)]  # of the two images, height x width
FIELDS = ('bboxes', 'labels', 'scores', 'masks')
VOID = sum(COUNTS.values())
# For masks of random weights that are neither empty nor everywhere: factors of parameters.
MASK_CONTRAST = {'bbox_head.controller': 5, 'bbox_head.kernel_convs': 3, 'bbox_head.rtm_kernel': 3}


def build(cfg):
    model = MODELS.build(cfg).eval()
    model.init_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('semantic_head.conv_logits.weight'):
                parameter.sub_(parameter.mean(1, keepdim=True))  # several classes in one image
            for part, factor in MASK_CONTRAST.items():
                if part in name:
                    parameter.mul_(factor)
    return model


def make_batch():
    """Two images of different sizes, the second one padded in the batch."""
    samples = [make_sample(seed=0), make_sample(seed=1)]
    for sample, size in zip(samples, SIZES):
        sample.set_metainfo(dict(ori_shape=size, scale_factor=(0.5, 0.5)))
    samples[1].set_metainfo(dict(img_shape=(48, 70)))
    # Blobs, which the networks see in all levels, rather than noise.
    inputs = F.interpolate(2 * torch.randn(2, 3, 8, 12), size=(64, 96), mode='bicubic')
    inputs[1, :, 48:] = 0
    inputs[1, :, :, 70:] = 0
    return inputs, samples


@torch.no_grad()
def predict(model, inputs, samples, **kwargs):
    return model.predict(inputs, [sample.clone() for sample in samples], **kwargs)


def write_class_map(path, size, seed):
    """A file with random blocks of all classes and of 255; returns its labels (H, W)."""
    blocks = np.random.default_rng(seed).choice([*range(VOID), 255], (6, 6)).astype(np.uint8)
    labels = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), labels)
    return torch.from_numpy(labels).long()


def check_result(result, size):
    """Real detections, some of which overlap and become segments; maps of the right size."""
    assert len(result.pred_instances) > 1
    masks = result.pred_instances.masks
    assert masks.shape[1:] == size
    assert masks.dtype == torch.bool
    assert (masks.sum(0) > 1).any()
    panoptic = result.pred_panoptic_seg
    assert panoptic.sem_seg.shape == result.pred_sem_seg.sem_seg.shape == (1, *size)
    assert any(segment['is_thing'] for segment in panoptic.segments_info)
    assert any(not segment['is_thing'] for segment in panoptic.segments_info)
    assert len(panoptic.occlusion.pairs) > 0


def check_same_detections(given, expected):
    assert len(given) == len(expected) > 0
    for name in FIELDS:
        assert torch.equal(given[name], expected[name]), name


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_build(path):
    cfg = Config.fromfile(path).model
    for part in (
        cfg.get('backbone', {}),
        cfg.get('instance_model', {}),
        cfg.get('semantic_model', {}),
    ):
        part.pop('init_cfg', None)  # nothing is downloaded
    model = MODELS.build(cfg)
    assert type(model).__name__ == cfg.type.split('.')[-1]
    heuristic = path.stem.startswith('panoptic_fpn_r')
    fusion = 'HeuristicFusionHead' if heuristic else 'OcclusionAwareFusionHead'
    assert type(model.panoptic_fusion_head).__name__ == fusion


def test_panoptic_fpn_is_compared_in_the_same_set_up():
    """Data, schedule and the sizes of the shared parts are those of the small BANet."""
    banet = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    plain = Config.fromfile(CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py')
    assert plain.model.type == 'PanopticFPN'
    for key in banet.keys() - {'model', 'val_evaluator', 'test_evaluator'}:
        assert plain[key] == banet[key], key
    assert banet.test_evaluator[0] == dict(plain.test_evaluator, stuff_iou=True)
    for key in ('data_preprocessor', 'backbone', 'neck', 'rpn_head'):
        assert plain.model[key] == banet.model[key], key
    assert plain.model.roi_head.bbox_head == banet.model.roi_head.bbox_head
    for key in ('rpn', 'rpn_proposal', 'rcnn'):
        assert plain.model.train_cfg[key] == banet.model.train_cfg[key], key
    assert plain.model.test_cfg.rcnn.score_thr == banet.model.test_cfg.panoptic.score_thr == 0.6


def test_checkpoint_of_mmdet_panoptic_fpn_as_it_is(tmp_path, monkeypatch):
    theirs = build(panoptic_fpn())
    torch.save(dict(state_dict=theirs.state_dict()), tmp_path / 'panoptic_fpn.pth')
    ours = MODELS.build(occlusion_aware(panoptic_fpn())).eval()
    load_checkpoint(ours, str(tmp_path / 'panoptic_fpn.pth'), strict=True)

    seen = {}

    def spy(detections, logits, predict=theirs.panoptic_fusion_head.predict):
        seen.update(detections=detections, logits=logits)
        return predict(detections, logits)

    monkeypatch.setattr(theirs.panoptic_fusion_head, 'predict', spy)
    inputs, samples = make_batch()
    expected = predict(theirs, inputs, samples)
    for i, result in enumerate(predict(ours, inputs, samples)):
        check_result(result, SIZES[i])
        check_same_detections(result.pred_instances, seen['detections'][i])
        # Their channels: stuff, then one for all things. Rounding may turn single pixels.
        semantics = seen['logits'][i].argmax(0) + COUNTS['num_things_classes']
        assert semantics.unique().numel() > 2
        assert (result.pred_sem_seg.sem_seg[0] != semantics).float().mean() < 0.002

        ours_map, their_map = (x.pred_panoptic_seg.sem_seg[0] for x in (result, expected[i]))
        free = ~result.pred_instances.masks.any(0)
        assert free.float().mean() > 0.1
        assert (ours_map != their_map)[free].float().mean() < 0.002
        assert (ours_map != their_map)[~free].any()


@pytest.mark.parametrize(
    ('name', 'change'),
    [('CascadeRCNN', families.with_cascade), ('HybridTaskCascade', families.with_htc)],
)
@pytest.mark.parametrize('rescale', [True, False])
def test_cascades_with_a_semantic_head(name, change, rescale):
    """Their detections are those of mmdet's own detector with the same weights."""
    theirs = build(families.instance_model(name))
    ours = build(change(occlusion_aware(panoptic_fpn())))
    keys = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert keys.unexpected_keys == []
    assert all(key.startswith('semantic_head.') for key in keys.missing_keys)

    inputs, samples = make_batch()
    expected = predict(theirs, inputs, samples, rescale=rescale)
    for i, result in enumerate(predict(ours, inputs, samples, rescale=rescale)):
        check_result(result, SIZES[i] if rescale else samples[i].img_shape)
        check_same_detections(result.pred_instances, expected[i].pred_instances)


@pytest.mark.parametrize('semantic_branch', [False, True])
def test_training_of_hybrid_task_cascade(semantic_branch):
    cfg = families.with_htc(occlusion_aware(panoptic_fpn()), semantic_branch)
    model = build(cfg).train()
    inputs, _ = make_batch()
    losses = model.loss(inputs, [make_sample(seed=0), make_sample(seed=1)])
    assert {'loss_rpn_cls', 'loss_seg', 's0.loss_mask', 's2.loss_bbox'} <= set(losses)
    assert ('loss_semantic_seg' in losses) == semantic_branch
    total = sum(
        sum(value) if isinstance(value, list) else value
        for name, value in losses.items()
        if 'loss' in name
    )
    total.backward()
    assert torch.isfinite(total)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    'name', ['MaskRCNN', 'CascadeRCNN', 'HybridTaskCascade', 'SOLOv2', 'CondInst', 'RTMDet']
)
def test_instance_model_with_predictions_of_another_program(name, tmp_path):
    alone = build(families.instance_model(name))
    inputs, samples = make_batch()
    files = [write_class_map(tmp_path / f'{i}.png', size, seed=i) for i, size in enumerate(SIZES)]
    folder = dict(type='mmbanet.SemanticPredictionFolder', folder=str(tmp_path), **COUNTS)
    model = MODELS.build(families.instance_semantic_fusion(name, folder)).eval()
    model.instance_model.load_state_dict(alone.state_dict(), strict=True)

    expected = predict(alone, inputs, samples, rescale=True)
    results = predict(model, inputs, samples)
    for result, reference, labels, size in zip(results, expected, files, SIZES):
        check_result(result, size)
        theirs = reference.pred_instances
        if not theirs.bboxes.any():  # SOLO; boxes from masks have a test of their own
            theirs.bboxes = result.pred_instances.bboxes
        check_same_detections(result.pred_instances, theirs)

        semantics = labels.where(labels < VOID, VOID)
        assert torch.equal(result.pred_sem_seg.sem_seg[0], semantics)
        free = ~result.pred_instances.masks.any(0)
        stuff = semantics.where(semantics >= COUNTS['num_things_classes'], VOID)
        assert free.any()
        assert torch.equal(result.pred_panoptic_seg.sem_seg[0][free].long(), stuff[free])

    for result, sample in zip(predict(model, inputs, samples, rescale=False), samples):
        check_result(result, sample.img_shape)


@pytest.mark.parametrize('rescale', [True, False])
def test_instance_model_with_the_semantic_part_of_panoptic_fpn(rescale):
    """Put together again from two parts, PanopticFPN gives what it gives in one piece."""
    whole = build(occlusion_aware(panoptic_fpn()))
    cfg = families.instance_semantic_fusion('MaskRCNN', families.semantic_segmentor())
    cfg.test_cfg.panoptic = occlusion_aware(panoptic_fpn()).test_cfg.panoptic
    parts = build(cfg)
    for part in (parts.instance_model, parts.semantic_model):
        assert part.load_state_dict(whole.state_dict(), strict=False).missing_keys == []

    inputs, samples = make_batch()
    expected = predict(whole, inputs, samples, rescale=rescale)
    for i, result in enumerate(predict(parts, inputs, samples, rescale=rescale)):
        check_result(result, SIZES[i] if rescale else samples[i].img_shape)
        check_same_detections(result.pred_instances, expected[i].pred_instances)
        for name in ('pred_sem_seg', 'pred_panoptic_seg'):
            assert torch.equal(result.get(name).sem_seg, expected[i].get(name).sem_seg)
