# The small BANet with the classes of CamVid.
_base_ = 'banet_r18_fpn_small.py'

num_things_classes = _base_.num_street_things
num_stuff_classes = _base_.num_street_stuff

model = dict(
    _base_.parts.street,
    i2s_head=dict(num_classes=num_things_classes + num_stuff_classes),
)
small_logit_fusion = _base_.street_logit_fusion
small_spatial_ranking = _base_.street_spatial_ranking
