# Mask-wise merging, of Panoptic SegFormer, on PanopticFPN and its checkpoint: nothing is trained.
_base_ = '../panoptic_fpn/panoptic_fpn_r18_fpn_scenes.py'

model = _base_.small_logit_fusion.mask_wise
