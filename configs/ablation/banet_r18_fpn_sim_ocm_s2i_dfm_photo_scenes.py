# Table 2: SIM, OCM, S2I and DFM: the checkpoint of the base config, fused by score.
_base_ = '../banet/banet_r18_fpn_dfm_photo_scenes.py'

model = _base_.parts.without_oh
