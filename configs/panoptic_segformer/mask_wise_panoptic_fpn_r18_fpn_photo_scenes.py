# Mask-wise merging, of Panoptic SegFormer, on PanopticFPN and its checkpoint: nothing is trained.
_base_ = ['../panoptic_fpn/panoptic_fpn_r18_fpn_photo_scenes.py']

limit = _base_.model.test_cfg.panoptic.stuff_area_limit
model = dict(
    _base_.logit_fusion.mask_wise,
    test_cfg=dict(
        panoptic=dict(_base_.logit_fusion_settings, _delete_=True, stuff_area_limit=limit)
    ),
)
