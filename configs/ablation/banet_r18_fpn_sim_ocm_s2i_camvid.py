# Table 2: SIM, OCM and S2I: the checkpoint of the base config, fused by score.
_base_ = '../banet/banet_r18_fpn_camvid.py'

model = _base_.parts.without_oh
