# EfficientPS's fusion on the R50 model without BANet's paths, with logits of all classes.
_base_ = ['../ablation/banet_r50_fpn_baseline_1x_coco.py']

counts = dict(
    num_things_classes=_base_.num_things_classes, num_stuff_classes=_base_.num_stuff_classes
)
model = dict(
    panoptic_fusion_head=dict(
        _base_.logit_fusion.efficientps.panoptic_fusion_head, _delete_=True, **counts
    ),
    test_cfg=_base_.logit_fusion.efficientps.test_cfg,
)
