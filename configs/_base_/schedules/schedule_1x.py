# The paper's 1x schedule: batch 16, 90k iterations, lr 0.02 divided by 10 at 60k and 80k, linear
# warm-up over 500 iterations from 0.002.
max_iters = 90000

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001),
)

# 8 GPUs x 2 images; tools/train.py --auto-scale-lr scales the rate to another batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
