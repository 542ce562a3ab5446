# The small BANet on scenes composed of CamVid's frames.
_base_ = [
    '../_base_/models/banet_r18_fpn_street.py',
    '../_base_/datasets/photo_scenes_panoptic.py',
    '../_base_/schedules/schedule_street.py',
    '../_base_/small_runtime.py',
]
