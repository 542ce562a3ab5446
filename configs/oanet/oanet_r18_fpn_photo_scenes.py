# OANet's spatial ranking on the small model without BANet's paths.
_base_ = '../ablation/banet_r18_fpn_baseline_photo_scenes.py'

model = dict(
    panoptic_fusion_head=dict(
        _base_.parts.spatial_ranking,
        num_things_classes=_base_.num_things_classes,
        num_stuff_classes=_base_.num_stuff_classes,
    )
)
