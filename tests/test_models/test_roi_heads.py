"""BANet's parts with RoI heads other than the standard one."""

import pytest
import torch
from mmengine.config import Config

from .test_banet import LOSSES, PLAIN_EXTRACTORS, build, make_batch, summed_losses


def cascade(cfg: Config, roi_head: str = 'CascadeRoIHead') -> Config:
    """Three stages of the small model's box head; one mask head for all."""
    head = cfg.model.roi_head
    head.bbox_head.reg_class_agnostic = True
    head.merge(dict(type=roi_head, num_stages=3, stage_loss_weights=[1, 0.5, 0.25]))
    head.bbox_head = [head.bbox_head] * 3
    cfg.model.train_cfg.rcnn = [cfg.model.train_cfg.rcnn] * 3
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    cfg.model.test_cfg.panoptic.score_thr = 0.12
    return cfg


def hybrid_task_cascade(cfg: Config) -> Config:
    """A hybrid task cascade with a semantic branch of its own, and occlusion handling."""
    cfg.merge_from_dict(PLAIN_EXTRACTORS)
    cfg.model.pop('i2s_head')
    cascade(cfg, 'HybridTaskCascadeRoIHead')
    roi_layer = dict(type='RoIAlign', output_size=14, sampling_ratio=0)
    cfg.model.roi_head.merge(
        dict(
            semantic_roi_extractor=dict(
                type='SingleRoIExtractor', roi_layer=roi_layer, out_channels=64, featmap_strides=[8]
            ),
            semantic_head=dict(
                type='FusedSemanticHead',
                num_ins=5,
                fusion_level=1,
                num_convs=1,
                in_channels=64,
                conv_out_channels=64,
                num_classes=13,
            ),
            mask_head=[
                dict(
                    type='HTCMaskHead',
                    with_conv_res=stage > 0,
                    num_convs=1,
                    in_channels=64,
                    conv_out_channels=64,
                    num_classes=8,
                )
                for stage in range(3)
            ],
        )
    )
    return cfg


def test_cascade_with_both_paths_and_occlusion_handling(small_cfg):
    model = build(cascade(small_cfg), train=True)
    losses = summed_losses(model, *make_batch())
    assert {name.rpartition('.')[2] for name in losses} == LOSSES
    losses['loss_i2s'].backward()
    assert model.roi_head.mask_head[-1].convs[0].conv.weight.grad.abs().sum() > 0
    with torch.no_grad():
        results = model.eval()(*make_batch(), mode='predict')
        assert model(*make_batch(), mode='tensor')[-1].shape == (2, 13, 16, 24)
    assert len(results[0].pred_instances) > 0
    assert results[0].pred_panoptic_seg.sem_seg.shape == (1, 64, 96)


def test_hybrid_task_cascade_with_occlusion_handling(small_cfg):
    model = build(hybrid_task_cascade(small_cfg))
    with torch.no_grad():
        results = model(*make_batch(), mode='predict')
    assert len(results[0].pred_instances) > 0
    assert results[0].pred_panoptic_seg.sem_seg.shape == (1, 64, 96)


def test_s2i_with_a_semantic_branch_in_the_roi_head_is_refused(small_cfg):
    extractor = small_cfg.model.roi_head.bbox_roi_extractor.copy()
    cfg = hybrid_task_cascade(small_cfg)
    cfg.model.roi_head.bbox_roi_extractor = extractor
    with pytest.raises(TypeError, match='HybridTaskCascadeRoIHead has a semantic branch'):
        build(cfg)


def test_s2i_with_points_of_masks_is_refused(small_cfg):
    small_cfg.model.pop('i2s_head')
    mask_head = dict(type='CoarseMaskHead', in_channels=64, num_classes=8)
    point_head = dict(type='MaskPointHead', in_channels=64, num_classes=8)
    small_cfg.model.roi_head.merge(
        dict(type='PointRendRoIHead', mask_head=dict(mask_head, _delete_=True))
    )
    small_cfg.model.roi_head.point_head = point_head
    with pytest.raises(TypeError, match='PointRendRoIHead takes points of the levels'):
        build(small_cfg)
    small_cfg.merge_from_dict(PLAIN_EXTRACTORS)
    build(small_cfg)
