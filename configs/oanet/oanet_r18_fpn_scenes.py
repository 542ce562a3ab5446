# OANet's spatial ranking on the small model without BANet's paths.
_base_ = '../ablation/banet_r18_fpn_baseline_scenes.py'

model = _base_.small_spatial_ranking
