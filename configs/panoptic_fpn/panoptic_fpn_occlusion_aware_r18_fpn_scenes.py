# The same model and checkpoint with occlusion handling in place of the score order.
_base_ = 'panoptic_fpn_r18_fpn_scenes.py'

model = dict(
    _base_.occlusion_aware,
    test_cfg=dict(
        panoptic=dict(
            _base_.occlusion_handling,
            _delete_=True,
            stuff_area_limit=_base_.model.test_cfg.panoptic.stuff_area_limit,
        )
    ),
)
val_evaluator = [_base_.panoptic_metric, _base_.occlusion_metric]
test_evaluator = val_evaluator
