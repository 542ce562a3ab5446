# EfficientPS's fusion on the small model without BANet's paths, with logits of all classes.
_base_ = ['../ablation/banet_r18_fpn_baseline_photo_scenes.py']

limit = _base_.model.test_cfg.panoptic.stuff_area_limit
counts = dict(
    num_things_classes=_base_.num_things_classes, num_stuff_classes=_base_.num_stuff_classes
)
model = dict(
    panoptic_fusion_head=dict(
        _base_.logit_fusion.efficientps.panoptic_fusion_head, _delete_=True, **counts
    ),
    test_cfg=dict(
        panoptic=dict(_base_.logit_fusion_settings, _delete_=True, stuff_area_limit=limit)
    ),
)

# Fusion by logits says nothing of who is in front.
val_evaluator = dict(_delete_=True, **_base_.panoptic_metric)
test_evaluator = val_evaluator
