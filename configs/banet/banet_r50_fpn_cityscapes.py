# The paper's ResNet-50-FPN model on Cityscapes, on which the paper does not report.
_base_ = [
    '../_base_/models/banet_r50_fpn.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_cityscapes.py',
    '../_base_/default_runtime.py',
]

num_things_classes = len(_base_.thing_classes)
num_stuff_classes = len(_base_.stuff_classes)
of_both = dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things_classes),
        mask_head=dict(num_classes=num_things_classes),
    ),
    semantic_head=of_both,
    i2s_head=dict(num_classes=num_things_classes + num_stuff_classes),
    panoptic_fusion_head=of_both,
    # As UPSNet and EfficientPS have it for Cityscapes.
    test_cfg=dict(panoptic=dict(stuff_area_limit=2048)),
)
