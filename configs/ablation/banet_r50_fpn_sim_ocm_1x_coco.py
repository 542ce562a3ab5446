# Table 2: SIM and OCM, with mmdet's RoI extractors.
_base_ = 'banet_r50_fpn_sim_ocm_s2i_1x_coco.py'

s2i = _base_.model.roi_head
pyramid_alone = {
    name: dict(
        _delete_=True,
        type='SingleRoIExtractor',
        roi_layer=dict(s2i[name].roi_layer, type='RoIAlign'),
        out_channels=s2i[name].out_channels,
        featmap_strides=s2i[name].featmap_strides,
        finest_scale=s2i[name].finest_scale,
    )
    for name in ('bbox_roi_extractor', 'mask_roi_extractor')
}
model = dict(roi_head=pyramid_alone)
del s2i, pyramid_alone
