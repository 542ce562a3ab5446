# What configs add to a model or leave out of it, each once, whatever the backbone and the data: a
# config takes a part as its override, `model = _base_.parts.without_ocm`.
_base_ = 'instance_occlusion.py'

num_things_classes = 80  # of COCO
num_stuff_classes = 53
num_street_things = 4
num_street_stuff = 7

# Void counts neither in semantic losses nor where images are padded.
loss_seg = dict(type='CrossEntropyLoss', ignore_index=255, avg_non_ignore=True)
semantic_padding = dict(pad_seg=True, seg_pad_value=255)

weight_without_i2s = 0.5
deform_conv = dict(type='mmbanet.DeformConv2dPack', deform_groups=1)
street_classes = dict(num_things_classes=num_street_things, num_stuff_classes=num_street_stuff)
pyramid_extractor = dict(type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign'))

parts = dict(
    # Instances are ordered by their scores.
    without_oh=dict(panoptic_fusion_head=dict(order=None)),
    # Whose contour is seen is in front, in place of the paper's rule. With duplicates dropped
    # before, what is left is occlusion, and is decided wherever a contour is found.
    contour=dict(
        panoptic_fusion_head=dict(
            order=dict(type='mmbanet.ContourContrast', least_strength=0, least_difference=0),
            duplicates=dict(type='mmbanet.DuplicateFilter'),
        )
    ),
    # OANet's fusion; the numbers of classes are the model's.
    spatial_ranking=dict(type='mmbanet.SpatialRankingHead', _delete_=True),
    # Both semantic losses at full weight, in place of the paper's.
    full_losses=dict(
        semantic_head=dict(loss_seg=dict(loss_weight=1.0)),
        i2s_head=dict(loss_i2s=dict(loss_weight=1.0)),
    ),
    # mmdet's RoI extractors.
    without_s2i=dict(
        roi_head=dict(bbox_roi_extractor=pyramid_extractor, mask_roi_extractor=pyramid_extractor)
    ),
    without_ocm=dict(i2s_head=dict(ocm=None)),
    without_i2s=dict(
        i2s_head=None, semantic_head=dict(loss_seg=dict(loss_weight=weight_without_i2s))
    ),
    roi_upsample=dict(i2s_head=dict(inlay=dict(type='mmbanet.RoIUpsample'))),
    # Deformable convolutions in the semantic head, with the paper's loss weights for them.
    dfm=dict(
        semantic_head=dict(conv_cfg=deform_conv, loss_seg=dict(loss_weight=0.1)),
        i2s_head=dict(loss_i2s=dict(loss_weight=0.2)),
    ),
    panoptic_fpn_head=dict(
        type='PanopticFPNHead', loss_seg=dict(loss_seg, loss_weight=weight_without_i2s)
    ),
    # AUNet's attention and loss weights in a model with mmdet's PanopticFPNHead.
    aunet=dict(
        type=_base_.occlusion_aware.type,
        semantic_head=dict(
            type='mmbanet.AttentionSemanticHead', loss_seg=dict(loss_seg, loss_weight=0.3)
        ),
        train_cfg=dict(mam=dict(gt_share=(0.6, 1.0))),
    ),
    # The classes of CamVid, in a model of any kind with things and stuff.
    street=dict(
        roi_head=dict(
            bbox_head=dict(num_classes=num_street_things),
            mask_head=dict(num_classes=num_street_things),
        ),
        semantic_head=street_classes,
        panoptic_fusion_head=street_classes,
        # 4096 pixels of COCO's 640x480 in the same proportion of 240x180.
        test_cfg=dict(panoptic=dict(stuff_area_limit=576)),
    ),
)

# What of them the rivals' fusion needs, in place of the small model's.
street_fusion = {name: parts['street'][name] for name in ('panoptic_fusion_head', 'test_cfg')}
street_logit_fusion = dict.fromkeys(_base_.logit_fusion, street_fusion)
street_spatial_ranking = dict(panoptic_fusion_head=street_classes)

# Table 4: ground truth in place of intermediate results, around any model:
# `model = dict(_base_.oracles.boxes, _delete_=True, model=_base_.model)`.
oracles = {
    '_'.join(replaced): dict(type='mmbanet.OracleModel', oracles=replaced)
    for replaced in (
        ['occlusion'],
        ['boxes'],
        ['boxes', 'classes'],
        ['boxes', 'classes', 'occlusion'],
        ['semantics'],
    )
}
del pyramid_extractor, street_classes, street_fusion, weight_without_i2s
