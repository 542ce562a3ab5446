# The small BANet with DFM and a deeper backbone, as ResNet-101 in Table 3.
_base_ = 'banet_r18_fpn_dfm_scenes.py'

model = dict(backbone=dict(depth=34))
