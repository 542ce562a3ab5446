# Panoptic FPN's schedule on Cityscapes (Kirillov et al., CVPR 2019, section 5): batch 32, 65k
# iterations, lr 0.01 divided by 10 at 40k and 55k. Warm-up, momentum and weight decay as on COCO.
_base_ = 'schedule_1x.py'

max_iters = 65000

train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_iters, milestones=[40000, 55000]),
]
optim_wrapper = dict(optimizer=dict(lr=0.01))
auto_scale_lr = dict(base_batch_size=32)
