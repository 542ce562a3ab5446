# JSIS-Net's merging on PanopticFPN and its checkpoint: nothing is trained for it.
_base_ = ['../panoptic_fpn/panoptic_fpn_r18_fpn_camvid.py']

limit = _base_.model.test_cfg.panoptic.stuff_area_limit
model = dict(
    _base_.logit_fusion.jsis,
    test_cfg=dict(
        panoptic=dict(_base_.logit_fusion_settings, _delete_=True, stuff_area_limit=limit)
    ),
)
