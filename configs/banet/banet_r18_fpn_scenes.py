# The small BANet on generated scenes: what `make demo` trains.
_base_ = [
    '../_base_/models/banet_r18_fpn_small.py',
    '../_base_/datasets/scenes_panoptic.py',
    '../_base_/schedules/schedule_scenes.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1))
