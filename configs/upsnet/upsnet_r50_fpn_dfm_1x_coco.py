# UPSNet's panoptic head with its loss; its semantic head has deformable convolutions, as here.
_base_ = ['../efficientps/efficientps_r50_fpn_1x_coco.py']

model = dict(
    _base_.upsnet_training,
    semantic_head=dict(_base_.upsnet_training.semantic_head, conv_cfg=_base_.deform_conv),
)
