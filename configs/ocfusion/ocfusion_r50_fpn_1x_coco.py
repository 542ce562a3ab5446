# OCFusion on mmdet's PanopticFPN with its published checkpoint, which is frozen. The paper trains
# "a few thousand" iterations: here one epoch of batch 16, at a tenth of the rate as in a
# reimplementation.
_base_ = [
    'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    '../_base_/instance_occlusion.py',
]

model = _base_.instance_occlusion
load_from = (
    'https://download.openmmlab.com/mmdetection/v2.0/panoptic_fpn/panoptic_fpn_r50_fpn_1x_coco/'
    'panoptic_fpn_r50_fpn_1x_coco_20210821_101153-9668fd13.pth'
)

train_pipeline = [
    *_base_.train_pipeline[:2],
    _base_.load_order,
    *_base_.train_pipeline[2:-1],
    dict(_base_.train_pipeline[-1], **_base_.pack_order),
]
train_dataloader = dict(
    dataset=dict(
        type='mmbanet.PanopticDataset',
        instances_ann_file=_base_.train_dataloader.dataset.ann_file.replace(
            'panoptic', 'instances'
        ),
        pipeline=train_pipeline,
    )
)

train_cfg = dict(max_epochs=1)
param_scheduler = []
optim_wrapper = dict(optimizer=dict(lr=0.1 * _base_.optim_wrapper.optimizer.lr))
