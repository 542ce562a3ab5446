# The scenes at twice their size with a longer schedule: masks sharp enough for Table 4's oracles.
_base_ = 'banet_r18_fpn_dfm_scenes.py'

max_iters = 6000
steps = dict(_base_.steps, resize=dict(_base_.steps.resize, scale=(256, 256)))
# Table 4's figures are of a training without flips.
train_pipeline = [steps[name] for name in ('image', 'annotations', 'resize', 'pack')]
test_pipeline = [steps[name] for name in ('image', 'resize', 'annotations', 'pack_test')]

model = dict(
    rpn_head=dict(
        anchor_generator=dict(
            scales=[2 * scale for scale in _base_.model.rpn_head.anchor_generator.scales]
        )
    ),
    roi_head={
        name: dict(finest_scale=2 * _base_.model.roi_head[name].finest_scale)
        for name in ('bbox_roi_extractor', 'mask_roi_extractor')
    },
)
train_dataloader = dict(
    batch_size=_base_.train_dataloader.batch_size // 2, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.0015))
