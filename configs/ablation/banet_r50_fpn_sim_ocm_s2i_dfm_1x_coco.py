# Table 2: SIM, OCM, S2I and DFM (PQ 41.8): the checkpoint of the base config, fused by score.
_base_ = '../banet/banet_r50_fpn_dfm_1x_coco.py'

model = _base_.parts.without_oh
