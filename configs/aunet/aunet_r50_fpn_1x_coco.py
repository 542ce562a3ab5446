# AUNet: mmdet's PanopticFPN with attention in its semantic branch, which has a smaller weight.
_base_ = ['../panoptic_fpn/panoptic_fpn_r50_fpn_1x_coco.py', '../_base_/parts.py']

model = dict(
    _base_.parts.aunet,
    semantic_head=dict(
        _base_.parts.aunet.semantic_head,
        _delete_=True,
        num_things_classes=_base_.num_things_classes,
        num_stuff_classes=_base_.num_stuff_classes,
    ),
)
