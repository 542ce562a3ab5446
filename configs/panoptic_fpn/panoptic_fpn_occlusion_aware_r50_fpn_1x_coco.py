# mmdet's PanopticFPN with its published checkpoint and occlusion handling: nothing is trained.
_base_ = ['mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', '../_base_/occlusion_handling.py']

model = dict(
    type='mmbanet.BANet',
    panoptic_fusion_head=dict(type='mmbanet.OcclusionAwareFusionHead'),
    test_cfg=dict(panoptic=dict(_base_.occlusion_handling, _delete_=True)),
)
