# The small BANet on CamVid at 240x180, from scratch: for a CPU.
_base_ = [
    '../_base_/models/banet_r18_fpn_small.py',
    '../_base_/datasets/camvid_panoptic.py',
    '../_base_/schedules/schedule_scenes.py',
    '../_base_/small_runtime.py',
]

max_iters = 1500
num_things_classes = 4
num_stuff_classes = 7

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=num_things_classes),
        mask_head=dict(num_classes=num_things_classes),
    ),
    semantic_head=dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes),
    i2s_head=dict(num_classes=num_things_classes + num_stuff_classes),
    panoptic_fusion_head=dict(
        num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes
    ),
    # 4096 pixels of COCO's 640x480 in the same proportion.
    test_cfg=dict(panoptic=dict(stuff_area_limit=576)),
)

train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=max_iters)]
default_hooks = dict(checkpoint=dict(interval=500))
