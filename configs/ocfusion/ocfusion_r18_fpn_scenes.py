# OCFusion on the small PanopticFPN of configs/panoptic_fpn, trained before and frozen here.
_base_ = '../panoptic_fpn/panoptic_fpn_r18_fpn_scenes.py'

model = _base_.small_ocfusion
load_from = f'work_dirs/panoptic_fpn_r18_fpn_scenes/iter_{_base_.max_iters}.pth'

train_pipeline = [
    _base_.steps.image,
    _base_.steps.annotations,
    _base_.load_order,
    _base_.steps.resize,
    _base_.steps.flip,
    dict(_base_.steps.pack, **_base_.pack_order),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

val_evaluator = [_base_.panoptic_metric, _base_.occlusion_metric]
test_evaluator = val_evaluator
