# OANet: spatial ranking of Panoptic FPN's instances, trained together on masks that overlap. The
# weight of the semantic loss is OANet's.
_base_ = '../ablation/banet_r50_fpn_baseline_1x_coco.py'

model = dict(
    panoptic_fusion_head=_base_.parts.spatial_ranking,
    semantic_head=dict(loss_seg=dict(loss_weight=0.25)),
)
