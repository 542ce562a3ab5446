# test_cfg.panoptic of mmbanet.OcclusionAwareFusionHead with the paper's settings (section 4.3), for
# models that bring a test_cfg.panoptic of another fusion head or none.
occlusion_handling = dict(
    score_thr=0.6,
    nms=dict(type='nms', iou_threshold=0.5),
    occlusion_thr=0.2,
    removal_thr=0.5,
    stuff_area_limit=4096,
)
