# Of trainings of a few hundred iterations.
_base_ = 'default_runtime.py'

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1))
