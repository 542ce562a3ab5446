"""The small BANet, narrower, with thresholds that random weights pass.

A few megabytes with all that a checkpoint holds, and tenths of a second an iteration.
"""

_base_ = '../../configs/banet/banet_r18_fpn_scenes.py'

width = 16
norm_cfg = dict(type='GN', num_groups=4)
extractor = dict(out_channels=width)
loader = dict(num_workers=0, persistent_workers=False)

model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(extractor, semantic_channels=2 * width),
        mask_roi_extractor=dict(extractor, semantic_channels=2 * width),
        bbox_head=dict(in_channels=width, fc_out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width),
    ),
    semantic_head=dict(
        in_channels=width, feat_channels=(width, width // 2, width // 2), norm_cfg=norm_cfg
    ),
    i2s_head=dict(
        instance_channels=width,
        semantic_channels=2 * width,
        width=width // 2,
        out_channels=width,
        norm_cfg=norm_cfg,
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=20)),
    test_cfg=dict(
        rcnn=dict(score_thr=0.0, max_per_img=10),
        panoptic=dict(score_thr=0.0, stuff_area_limit=1),
    ),
)
train_dataloader = dict(loader, batch_size=2)
val_dataloader = loader
test_dataloader = loader
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=1))
randomness = dict(seed=0)
