# JSIS-Net's merging on PanopticFPN and its checkpoint: nothing is trained for it.
_base_ = '../panoptic_fpn/panoptic_fpn_r18_fpn_photo_scenes.py'

model = _base_.small_logit_fusion.jsis
