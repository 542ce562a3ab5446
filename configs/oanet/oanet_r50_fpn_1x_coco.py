# OANet: spatial ranking of Panoptic FPN's instances, trained together on masks that overlap. The
# weight of the semantic loss is OANet's as it is cited, not checked against the paper; that of the
# ranking, and what else the paper trains with, is not known: as the rest here.
_base_ = '../ablation/banet_r50_fpn_baseline_1x_coco.py'

model = dict(
    panoptic_fusion_head=_base_.parts.spatial_ranking,
    semantic_head=dict(loss_seg=dict(loss_weight=0.25)),
)
