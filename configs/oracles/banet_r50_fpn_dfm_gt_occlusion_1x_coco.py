# Table 4: ground-truth occlusion; for checkpoints of the base config.
_base_ = '../banet/banet_r50_fpn_dfm_1x_coco.py'

model = dict(_base_.oracles.occlusion, _delete_=True, model=_base_.model)
