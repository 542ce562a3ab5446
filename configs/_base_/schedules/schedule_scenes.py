# Minutes on a CPU: AdamW with a one-cycle learning rate.
max_iters = 600

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters + 1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=0.002,
        total_steps=max_iters,
        pct_start=0.15,
        by_epoch=False,
    ),
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
