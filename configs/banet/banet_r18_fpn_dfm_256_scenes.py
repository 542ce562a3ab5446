# The scenes at twice their size with a longer schedule: masks sharp enough for Table 4's oracles.
_base_ = 'banet_r18_fpn_dfm_scenes.py'

max_iters = 6000
resize = dict(_base_.resize, scale=(256, 256))
train_pipeline = [*_base_.train_pipeline[:3], resize, *_base_.train_pipeline[4:]]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]

model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[8])),
    roi_head=dict(
        bbox_roi_extractor=dict(finest_scale=28), mask_roi_extractor=dict(finest_scale=112)
    ),
)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=max_iters)]
optim_wrapper = dict(optimizer=dict(lr=0.0015))
