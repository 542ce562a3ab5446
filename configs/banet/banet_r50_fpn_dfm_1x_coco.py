# Deformable convolutions in the semantic head (DFM), with the loss weights that the paper gives for
# it: PQ 43.0 on COCO val in Table 1.
_base_ = 'banet_r50_fpn_1x_coco.py'

model = _base_.parts.dfm
