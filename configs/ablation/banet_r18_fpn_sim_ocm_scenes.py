# Table 2: SIM and OCM, with mmdet's RoI extractors.
_base_ = 'banet_r18_fpn_sim_ocm_s2i_scenes.py'

box_extractor = _base_.model.roi_head.bbox_roi_extractor
mask_extractor = _base_.model.roi_head.mask_roi_extractor
pyramid = dict(
    _delete_=True,
    type='SingleRoIExtractor',
    out_channels=box_extractor.out_channels,
    featmap_strides=box_extractor.featmap_strides,
    finest_scale=box_extractor.finest_scale,
)
model = dict(
    roi_head=dict(
        bbox_roi_extractor=dict(pyramid, roi_layer=dict(box_extractor.roi_layer, type='RoIAlign')),
        mask_roi_extractor=dict(pyramid, roi_layer=dict(mask_extractor.roi_layer, type='RoIAlign')),
    ),
)
del box_extractor, mask_extractor, pyramid
