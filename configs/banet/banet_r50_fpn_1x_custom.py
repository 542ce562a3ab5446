# The paper's model on a data set of one's own: the classes, and all that follows from them, are
# those of its annotations (docs/own_data.md).
_base_ = [
    '../_base_/models/banet_r50_fpn.py',
    '../_base_/datasets/custom_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

classes_from_annotations = True
