# mmdet's PanopticFPN on composed scenes: trained as the small BANet, with the heuristic fusion.
_base_ = [
    '../_base_/models/panoptic_fpn_r18_fpn_street.py',
    '../_base_/datasets/photo_scenes_panoptic.py',
    '../_base_/schedules/schedule_street.py',
    '../_base_/small_runtime.py',
]

val_evaluator = dict(_delete_=True, **_base_.panoptic_metric)
test_evaluator = val_evaluator
