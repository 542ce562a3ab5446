# mmdet's PanopticFPN with its published checkpoint and occlusion handling: nothing is trained.
_base_ = ['mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py', '../_base_/occlusion_handling.py']

model = dict(
    _base_.occlusion_aware,
    test_cfg=dict(panoptic=dict(_base_.occlusion_handling, _delete_=True)),
)
