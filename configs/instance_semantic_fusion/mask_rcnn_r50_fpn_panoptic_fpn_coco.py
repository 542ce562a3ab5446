# mmdet's Mask R-CNN and the semantic part of its PanopticFPN, with their published checkpoints.
_base_ = 'mask_rcnn_r50_fpn_prediction_folder_coco.py'

model = dict(
    semantic_model=dict(
        _delete_=True,
        type='mmbanet.SemanticSegmentor',
        backbone=_base_.model.instance_model.backbone,
        neck=_base_.model.instance_model.neck,
        semantic_head=dict(
            type=_base_.parts.panoptic_fpn_head.type,
            num_things_classes=_base_.num_things_classes,
            num_stuff_classes=_base_.num_stuff_classes,
        ),
        init_cfg=dict(
            type='Pretrained',
            checkpoint=_base_.published + 'panoptic_fpn/panoptic_fpn_r50_fpn_1x_coco/'
            'panoptic_fpn_r50_fpn_1x_coco_20210821_101153-9668fd13.pth',
        ),
    )
)
