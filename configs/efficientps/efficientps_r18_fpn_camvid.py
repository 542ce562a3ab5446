# EfficientPS's fusion on the small model without BANet's paths, with logits of all classes.
_base_ = '../ablation/banet_r18_fpn_baseline_camvid.py'

model = _base_.small_logit_fusion.efficientps

# Fusion by logits says nothing of who is in front.
val_evaluator = dict(_delete_=True, **_base_.panoptic_metric)
test_evaluator = val_evaluator
