# Minutes on a CPU: AdamW, linear warm-up, cosine decay.
_base_ = 'loops.py'

max_iters = 500

train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)

param_scheduler = [
    dict(_base_.warmup, start_factor=0.05, end=60),
    dict(_base_.by_iteration, type='CosineAnnealingLR', eta_min=0, begin=60, end=max_iters),
]

optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
)
