# mmdet's PanopticFPN in the sizes of the small BANet, for comparison.
_base_ = 'banet_r18_fpn_small.py'

banet = _base_.model
class_counts = dict(
    num_things_classes=_base_.num_things_classes, num_stuff_classes=_base_.num_stuff_classes
)
roi_extractors = {
    name: dict(
        banet.roi_head[name],
        type=part.type,
        roi_layer=dict(banet.roi_head[name].roi_layer, **part.roi_layer),
    )
    for name, part in _base_.parts.without_s2i.roi_head.items()
}

model = dict(
    _delete_=True,
    type='PanopticFPN',
    data_preprocessor=banet.data_preprocessor,
    backbone=banet.backbone,
    neck=banet.neck,
    rpn_head=banet.rpn_head,
    roi_head=dict(
        banet.roi_head,
        **roi_extractors,
        mask_head=dict(banet.roi_head.mask_head, type='FCNMaskHead'),
    ),
    semantic_head=dict(
        _base_.parts.panoptic_fpn_head,
        in_channels=_base_.width,
        inner_channels=_base_.width // 2,
        norm_cfg=_base_.norm_cfg,
        **class_counts,
    ),
    panoptic_fusion_head=dict(type='HeuristicFusionHead', **class_counts),
    train_cfg=dict(
        rpn=banet.train_cfg.rpn,
        rpn_proposal=banet.train_cfg.rpn_proposal,
        rcnn=banet.train_cfg.rcnn,
    ),
    test_cfg=dict(
        rpn=banet.test_cfg.rpn,
        rcnn=dict(
            banet.test_cfg.rcnn,
            # The heuristic has no threshold and no suppression of its own.
            score_thr=banet.test_cfg.panoptic.score_thr,
            nms=dict(banet.test_cfg.panoptic.nms, class_agnostic=True),
        ),
        panoptic=dict(mask_overlap=0.5, stuff_area_limit=banet.test_cfg.panoptic.stuff_area_limit),
    ),
)

# AUNet in these sizes. A sixteenth of so few channels leaves a gate that may never open.
gate = dict(se_ratio=4)
small_aunet = dict(
    _base_.parts.aunet,
    semantic_head=dict(
        _base_.parts.aunet.semantic_head,
        pam=dict(gate, foreground_channels=_base_.width),
        mam=gate,
    ),
)
# OCFusion's. Things of one class hide each other in the small data sets, so that the head is asked
# of them, too.
small_ocfusion = dict(
    _base_.instance_occlusion,
    panoptic_fusion_head=dict(
        _base_.instance_occlusion.panoptic_fusion_head,
        in_channels=_base_.width,
        channels=2 * _base_.width,
        fc_channels=4 * _base_.width,
        same_class=True,
    ),
    test_cfg=dict(
        panoptic=dict(
            _base_.instance_occlusion.test_cfg.panoptic,
            stuff_area_limit=banet.test_cfg.panoptic.stuff_area_limit,
        )
    ),
)
del banet, class_counts, roi_extractors, gate
