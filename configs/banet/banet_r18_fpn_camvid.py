# The small BANet on CamVid at 240x180, from scratch: for a CPU.
_base_ = [
    '../_base_/models/banet_r18_fpn_street.py',
    '../_base_/datasets/camvid_panoptic.py',
    '../_base_/schedules/schedule_street.py',
    '../_base_/small_runtime.py',
]
