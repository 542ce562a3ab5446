# Occlusion handling with the paper's settings (section 4.3): test_cfg.panoptic of its fusion head.
occlusion_handling = dict(
    score_thr=0.6,
    nms=dict(type='nms', iou_threshold=0.5),
    occlusion_thr=0.2,
    removal_thr=0.5,
    stuff_area_limit=4096,
)

# What makes a model with instances and semantics an occlusion-aware panoptic one; one that has a
# test_cfg.panoptic of another fusion head replaces it.
occlusion_aware = dict(
    type='mmbanet.BANet',
    panoptic_fusion_head=dict(type='mmbanet.OcclusionAwareFusionHead'),
    test_cfg=dict(panoptic=occlusion_handling),
)
