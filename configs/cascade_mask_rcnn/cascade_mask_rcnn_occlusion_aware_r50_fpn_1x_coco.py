# Cascade Mask R-CNN with PanopticFPN's semantic head and occlusion handling.
_base_ = [
    'mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
    '../_base_/occlusion_handling.py',
]

model = dict(
    type='mmbanet.BANet',
    data_preprocessor=dict(pad_seg=True, seg_pad_value=255),
    semantic_head=dict(
        type='PanopticFPNHead',
        num_things_classes=80,
        num_stuff_classes=53,
        loss_seg=dict(
            type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.5
        ),
    ),
    panoptic_fusion_head=dict(type='mmbanet.OcclusionAwareFusionHead'),
    test_cfg=dict(panoptic=_base_.occlusion_handling),
)
