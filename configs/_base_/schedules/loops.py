# What all schedules share: they count iterations and begin with a linear warm-up.
train_cfg = dict(type='mmbanet.PlacedTrainLoop')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper')
by_iteration = dict(by_epoch=False)
warmup = dict(by_iteration, type='LinearLR', begin=0)
