# The rivals' fusion by logits: test_cfg.panoptic is without the settings of occlusion handling.
_base_ = 'occlusion_handling.py'

logit_fusion_settings = {
    name: _base_.occlusion_handling[name] for name in ('score_thr', 'nms', 'stuff_area_limit')
}
logit_fusion = {
    rule: dict(
        type=_base_.occlusion_aware.type,
        panoptic_fusion_head=dict(type='mmbanet.LogitFusionHead', rule=rule),
        test_cfg=dict(panoptic=dict(logit_fusion_settings, _delete_=True)),
    )
    for rule in ('upsnet', 'efficientps', 'jsis', 'mask_wise')
}
# What UPSNet trains: its panoptic loss, and the semantic losses with their own weights: that in the
# boxes has a fifth of the other's.
upsnet_training = dict(
    panoptic_fusion_head=dict(logit_fusion['upsnet']['panoptic_fusion_head'], loss_weight=0.1),
    semantic_head=dict(loss_seg=dict(loss_weight=0.2), roi_loss_weight=0.2),
)
