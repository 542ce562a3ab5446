# Table 4: ground-truth boxes; for checkpoints of the base config.
_base_ = '../banet/banet_r18_fpn_dfm_256_scenes.py'

model = dict(_base_.oracles.boxes, _delete_=True, model=_base_.model)
