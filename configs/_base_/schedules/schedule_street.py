# Half an hour of a CPU core, minutes of a GPU.
_base_ = 'schedule_scenes.py'

max_iters = 1500

train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=max_iters)]
