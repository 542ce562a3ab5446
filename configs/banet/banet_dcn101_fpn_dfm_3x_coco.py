# The largest model of the paper, PQ 47.3 on COCO test-dev in Table 1: ResNet-101 with deformable
# convolutions from stage 3 on, multi-scale training, three times the 1x schedule.
_base_ = 'banet_r101_fpn_dfm_1x_coco.py'

model = dict(
    backbone=dict(
        dcn=dict(_base_.deform_conv, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)

# The paper gives no scales; these are the field's for this schedule.
scales = [(1333, side) for side in range(640, 801, 32)]
train_pipeline = [
    dict(type='RandomChoiceResize', scales=scales, keep_ratio=True)
    if step['type'] == 'Resize'
    else step
    for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# In proportion to the 1x schedule, as the paper says; Detectron's own 3x steps at 210k and 250k.
max_iters = 270000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_iters, milestones=[180000, 240000]),
]
del scales
