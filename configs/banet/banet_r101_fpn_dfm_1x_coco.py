# ResNet-101-FPN with DFM: PQ 44.0 on COCO val in Table 3.
_base_ = 'banet_r50_fpn_dfm_1x_coco.py'

model = dict(backbone=dict(depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))
