default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmbanet.AtomicCheckpointHook', interval=5000, by_epoch=False, max_keep_ckpts=3
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
custom_hooks = [
    dict(type='mmbanet.ClassCountHook', priority='VERY_HIGH'),
    dict(type='mmbanet.FiniteLossHook'),  # skip=10: leaves out up to 10 such batches in a row
    dict(type='mmbanet.FileCheckHook'),  # files that are missing or cut off stop before the start
    dict(type='mmbanet.PlaceSeedHook'),  # a resumed training ends as an uninterrupted one
]

# The backend of torch.distributed follows the device in tools/train.py and tools/test.py.
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmbanet.PanopticVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)

log_level = 'INFO'
load_from = None
resume = False
