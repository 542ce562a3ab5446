# The paper's ResNet-50-FPN model with the 1x schedule: PQ 41.1 on COCO val in Table 1.
_base_ = [
    '../_base_/models/banet_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]
