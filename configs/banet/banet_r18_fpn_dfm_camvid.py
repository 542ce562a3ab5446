# The small BANet with deformable convolutions in the semantic head (DFM).
_base_ = 'banet_r18_fpn_camvid.py'

model = _base_.parts.dfm
