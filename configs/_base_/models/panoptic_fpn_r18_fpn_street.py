# mmdet's PanopticFPN in the sizes of the small BANet, with the classes of CamVid.
_base_ = 'panoptic_fpn_r18_fpn_small.py'

num_things_classes = _base_.num_street_things
num_stuff_classes = _base_.num_street_stuff

model = _base_.parts.street
small_logit_fusion = _base_.street_logit_fusion
small_ocfusion = dict(test_cfg=_base_.parts.street.test_cfg)
