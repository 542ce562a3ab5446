# Table 3: ResNet-101 without occlusion handling (PQ 42.5): the checkpoint of the base config.
_base_ = '../banet/banet_r101_fpn_dfm_1x_coco.py'

model = _base_.parts.without_oh
