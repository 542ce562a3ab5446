# The paper's 1x schedule: batch 16, 90k iterations, lr 0.02 divided by 10 at 60k and 80k, linear
# warm-up over 500 iterations from 0.002.
_base_ = 'loops.py'

max_iters = 90000

train_cfg = dict(max_iters=max_iters, val_interval=10000)

param_scheduler = [
    dict(_base_.warmup, start_factor=0.1, end=500),
    dict(
        _base_.by_iteration,
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001),
)

# 8 GPUs x 2 images; tools/train.py --auto-scale-lr scales the rate to another batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
