# Cascade Mask R-CNN with PanopticFPN's semantic head and occlusion handling.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
    '../_base_/parts.py',
]

model = dict(
    _base_.occlusion_aware,
    data_preprocessor=_base_.semantic_padding,
    semantic_head=dict(
        _base_.parts.panoptic_fpn_head,
        num_things_classes=_base_.num_things_classes,
        num_stuff_classes=_base_.num_stuff_classes,
    ),
)
