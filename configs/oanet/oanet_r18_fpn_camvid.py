# OANet's spatial ranking on the small model without BANet's paths. CamVid's masks never overlap:
# it learns from predicted ones.
_base_ = '../ablation/banet_r18_fpn_baseline_camvid.py'

fusion = _base_.small_spatial_ranking.panoptic_fusion_head
model = dict(panoptic_fusion_head=dict(fusion, learned_from='predicted'))
del fusion
