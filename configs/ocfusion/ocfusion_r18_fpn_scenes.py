# OCFusion on the small PanopticFPN of configs/panoptic_fpn, trained before and frozen here. Things
# of one class hide each other in these scenes, so that the head is asked of them, too.
_base_ = ['../panoptic_fpn/panoptic_fpn_r18_fpn_scenes.py']

part = _base_.instance_occlusion
model = dict(
    part,
    panoptic_fusion_head=dict(
        part.panoptic_fusion_head,
        in_channels=_base_.width,
        channels=2 * _base_.width,
        fc_channels=4 * _base_.width,
        same_class=True,
    ),
    test_cfg=dict(
        panoptic=dict(
            part.test_cfg.panoptic, stuff_area_limit=_base_.model.test_cfg.panoptic.stuff_area_limit
        )
    ),
)
load_from = f'work_dirs/panoptic_fpn_r18_fpn_scenes/iter_{_base_.max_iters}.pth'

train_pipeline = [
    *_base_.train_pipeline[:2],
    _base_.load_order,
    *_base_.train_pipeline[2:-1],
    dict(_base_.train_pipeline[-1], **_base_.pack_order),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

val_evaluator = [_base_.panoptic_metric, _base_.occlusion_metric]
test_evaluator = val_evaluator
del part
