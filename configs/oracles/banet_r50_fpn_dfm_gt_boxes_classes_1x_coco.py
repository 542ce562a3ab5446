# Table 4: ground-truth boxes and classes; for checkpoints of the base config.
_base_ = '../banet/banet_r50_fpn_dfm_1x_coco.py'

model = dict(_base_.oracles.boxes_classes, _delete_=True, model=_base_.model)
