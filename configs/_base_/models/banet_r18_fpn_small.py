# A narrow BANet that a CPU trains from scratch in minutes; the parts are those of the R50 model.
_base_ = 'banet_r50_fpn.py'

num_things_classes = 8
num_stuff_classes = 5
class_counts = dict(num_things_classes=num_things_classes, num_stuff_classes=num_stuff_classes)
# 4096 pixels of COCO's 640x480 in the same proportion of 128x128.
stuff_area_limit = 218
width = 64
norm_cfg = dict(type='GN', num_groups=8)
# One sample per bin: PanopticFPN has the same layer from mmcv, which has no threads on the CPU.
roi_layer = dict(sampling_ratio=1)

model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=width),
    rpn_head=dict(
        in_channels=width,
        feat_channels=width,
        anchor_generator=dict(scales=[4]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=roi_layer,
            out_channels=width,
            # Objects of 8 to 80 pixels instead of COCO's 32 to 800; masks are better from level 0.
            finest_scale=14,
        ),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=num_things_classes),
        mask_roi_extractor=dict(roi_layer=roi_layer, out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_classes=num_things_classes),
    ),
    semantic_head=dict(
        **class_counts,
        in_channels=width,
        feat_channels=(width, width // 2, width // 2),
        norm_cfg=norm_cfg,
    ),
    i2s_head=dict(
        num_classes=num_things_classes + num_stuff_classes,
        instance_channels=width,
        semantic_channels=2 * width,
        width=width // 2,
        out_channels=width,
        norm_cfg=norm_cfg,
    ),
    panoptic_fusion_head=class_counts,
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=48)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=100),
        panoptic=dict(stuff_area_limit=stuff_area_limit),
    ),
)

# The rivals' fusion in this model, whose counts and limit they need.
small_logit_fusion = {
    rule: dict(
        fusion,
        panoptic_fusion_head=dict(fusion.panoptic_fusion_head, _delete_=True, **class_counts),
        test_cfg=dict(panoptic=dict(fusion.test_cfg.panoptic, stuff_area_limit=stuff_area_limit)),
    )
    for rule, fusion in _base_.logit_fusion.items()
}
small_spatial_ranking = dict(
    panoptic_fusion_head=dict(_base_.parts.spatial_ranking, **class_counts)
)
del class_counts, stuff_area_limit
