# The small BANet on generated scenes: what `make demo` trains.
_base_ = [
    '../_base_/models/banet_r18_fpn_small.py',
    '../_base_/datasets/scenes_panoptic.py',
    '../_base_/schedules/schedule_scenes.py',
    '../_base_/small_runtime.py',
]
