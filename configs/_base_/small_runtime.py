# Of trainings of a few hundred iterations.
_base_ = 'default_runtime.py'

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1))
# The average of about the last 100 iterations is less noisy than the last of them.
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=0.01)]
