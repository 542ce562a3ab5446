# AUNet on CamVid: the small PanopticFPN with attention in its semantic branch.
_base_ = '../panoptic_fpn/panoptic_fpn_r18_fpn_camvid.py'

model = _base_.small_aunet
