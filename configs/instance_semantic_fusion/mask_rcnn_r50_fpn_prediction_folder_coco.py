# mmdet's Mask R-CNN with its published checkpoint, and class maps of any other program, one PNG for
# each image of the validation set.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
    '../_base_/parts.py',
]
published = 'https://download.openmmlab.com/mmdetection/v2.0/'

model = dict(
    _base_.occlusion_aware,
    _delete_=True,
    type='mmbanet.InstanceSemanticFusion',
    instance_model=dict(
        _base_.model,
        init_cfg=dict(
            type='Pretrained',
            checkpoint=published
            + 'mask_rcnn/mask_rcnn_r50_fpn_1x_coco/mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth',
        ),
    ),
    semantic_model=dict(
        type='mmbanet.SemanticPredictionFolder', folder=_base_.data_root + 'semantic_val2017'
    ),
)
