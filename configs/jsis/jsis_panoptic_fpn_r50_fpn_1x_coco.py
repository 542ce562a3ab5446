# JSIS-Net's merging on mmdet's PanopticFPN with its published checkpoint: nothing is trained.
_base_ = ['mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', '../_base_/logit_fusion.py']

model = _base_.logit_fusion.jsis
