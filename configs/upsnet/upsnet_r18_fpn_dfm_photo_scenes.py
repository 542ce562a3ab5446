# UPSNet's panoptic head with its loss on the small model; deformable convolutions as in R50's.
_base_ = '../efficientps/efficientps_r18_fpn_photo_scenes.py'

model = dict(
    _base_.upsnet_training,
    semantic_head=dict(_base_.upsnet_training.semantic_head, conv_cfg=_base_.deform_conv),
)
