# UPSNet's panoptic head with its loss on the small model without BANet's paths.
_base_ = ['../efficientps/efficientps_r18_fpn_scenes.py']

model = _base_.upsnet_training
