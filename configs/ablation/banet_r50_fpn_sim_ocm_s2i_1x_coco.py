# Table 2: SIM, OCM and S2I (PQ 40.3): the checkpoint of the base config, fused by score.
_base_ = '../banet/banet_r50_fpn_1x_coco.py'

model = _base_.parts.without_oh
