"""Small configs of the models that occlusion handling plugs into; 8 thing and 5 stuff classes."""

from pathlib import Path

from mmengine.config import Config, ConfigDict

from ..conftest import CONFIGS, is_large

COUNTS = dict(num_things_classes=8, num_stuff_classes=5)


def panoptic_fpn() -> ConfigDict:
    """mmdet's PanopticFPN, with thresholds that random weights pass."""
    cfg = Config.fromfile(CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py').model
    cfg.test_cfg.rcnn.merge(dict(score_thr=0.0, max_per_img=20))
    cfg.test_cfg.panoptic.stuff_area_limit = 1
    return cfg


def narrow(path: Path) -> ConfigDict:
    """The model of a shipped config, small, with thresholds that random weights pass."""
    cfg = Config.fromfile(path).model
    cfg.backbone.init_cfg = None
    if is_large(path):
        cfg.backbone.merge(dict(base_channels=8, stem_channels=8))
        cfg.neck.in_channels = [32, 64, 128, 256]
    cfg.roi_head.bbox_head.fc_out_channels = 32
    cfg.train_cfg.rpn_proposal.max_per_img = 50
    cfg.test_cfg.rcnn.merge(dict(score_thr=0.0, max_per_img=20))
    cfg.test_cfg.panoptic.merge(dict(score_thr=0.0, stuff_area_limit=1))
    return cfg


def occlusion_aware(cfg: ConfigDict) -> ConfigDict:
    """The same model with occlusion handling, as the shipped config says it."""
    path = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_occlusion_aware_r18_fpn_scenes.py'
    ours = Config.fromfile(path).model
    cfg.type = ours.type
    cfg.panoptic_fusion_head = ours.panoptic_fusion_head
    cfg.test_cfg.panoptic = ours.test_cfg.panoptic
    cfg.test_cfg.panoptic.merge(dict(score_thr=0.0, stuff_area_limit=1))
    return cfg


def with_cascade(cfg: ConfigDict) -> ConfigDict:
    """Three stages in place of the RoI head's one."""
    head = cfg.roi_head
    head.merge(dict(type='CascadeRoIHead', num_stages=3, stage_loss_weights=[1, 0.5, 0.25]))
    head.bbox_head.reg_class_agnostic = True
    head.bbox_head = [head.bbox_head] * 3
    cfg.train_cfg.rcnn = [cfg.train_cfg.rcnn] * 3
    return cfg


def with_htc(cfg: ConfigDict, semantic_branch: bool = False) -> ConfigDict:
    """Hybrid task cascade, with or without the semantic branch that its own RoI head has."""
    head = with_cascade(cfg).roi_head
    first = dict(head.mask_head, type='HTCMaskHead', with_conv_res=False)
    later = dict(head.mask_head, type='HTCMaskHead')
    head.merge(dict(type='HybridTaskCascadeRoIHead', mask_head=[first, later, later]))
    if semantic_branch:
        head.semantic_roi_extractor = dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=1),
            out_channels=64,
            featmap_strides=[8],
        )
        head.semantic_head = dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            seg_scale_factor=1 / 8,
            in_channels=64,
            conv_out_channels=64,
            num_classes=13,
            loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.2),
        )
    return cfg


def instance_model(name: str) -> ConfigDict:
    """An instance segmentation detector with the backbone and neck of :func:`panoptic_fpn`."""
    cfg = panoptic_fpn()
    if name in SINGLE_STAGE:
        shared = {key: cfg[key] for key in ('data_preprocessor', 'backbone', 'neck')}
        return ConfigDict(shared, type=name, **SINGLE_STAGE[name])
    cfg = {'CascadeRCNN': with_cascade, 'HybridTaskCascade': with_htc}.get(name, lambda x: x)(cfg)
    for key in ('semantic_head', 'panoptic_fusion_head'):
        cfg.pop(key)
    return ConfigDict(cfg, type=name)


def instance_semantic_fusion(name: str, semantic_model: dict) -> ConfigDict:
    """An instance segmentation detector with a separate semantic prediction."""
    return ConfigDict(
        type='mmbanet.InstanceSemanticFusion',
        instance_model=instance_model(name),
        semantic_model=dict(semantic_model),
        panoptic_fusion_head=dict(type='mmbanet.OcclusionAwareFusionHead', **COUNTS),
        test_cfg=dict(
            panoptic=dict(
                score_thr=0.0, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=1
            )
        ),
    )


def semantic_segmentor() -> ConfigDict:
    """The semantic part of :func:`panoptic_fpn`."""
    parts = panoptic_fpn()
    return ConfigDict(
        type='mmbanet.SemanticSegmentor',
        **{key: parts[key] for key in ('backbone', 'neck', 'semantic_head')},
    )


SINGLE_STAGE = dict(
    SOLOv2=dict(
        mask_head=dict(
            type='SOLOV2Head',
            num_classes=8,
            in_channels=64,
            feat_channels=32,
            stacked_convs=1,
            strides=[8, 8, 16, 32, 32],
            scale_ranges=((1, 16), (8, 32), (16, 64), (32, 128), (64, 256)),
            pos_scale=0.2,
            num_grids=[10, 8, 6, 4, 3],
            mask_feature_head=dict(
                feat_channels=16,
                start_level=0,
                end_level=3,
                out_channels=32,
                mask_stride=4,
                norm_cfg=dict(type='GN', num_groups=8),
            ),
            loss_mask=dict(type='DiceLoss', use_sigmoid=True),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        ),
        test_cfg=dict(
            nms_pre=500,
            score_thr=0.0,
            mask_thr=0.75,
            filter_thr=0.0,
            kernel='gaussian',
            sigma=2.0,
            max_per_img=4,
        ),
    ),
    CondInst=dict(
        bbox_head=dict(
            type='CondInstBboxHead',
            num_classes=8,
            in_channels=64,
            feat_channels=32,
            stacked_convs=1,
            num_params=169,
            strides=[4, 8, 16, 32, 64],
            centerness_on_reg=True,
        ),
        mask_head=dict(
            type='CondInstMaskHead',
            mask_feature_head=dict(
                in_channels=64,
                feat_channels=32,
                start_level=0,
                end_level=2,
                out_channels=8,
                mask_stride=4,
                num_stacked_convs=1,
            ),
            loss_mask=dict(type='DiceLoss', use_sigmoid=True),
        ),
        test_cfg=dict(
            nms_pre=100,
            min_bbox_size=0,
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.6),
            max_per_img=10,
            mask_thr=0.9,
        ),
    ),
    RTMDet=dict(
        bbox_head=dict(
            type='RTMDetInsSepBNHead',
            num_classes=8,
            in_channels=64,
            feat_channels=32,
            stacked_convs=1,
            share_conv=True,
            pred_kernel_size=1,
            norm_cfg=dict(type='BN'),
            anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[4, 8, 16, 32, 64]),
            bbox_coder=dict(type='DistancePointBBoxCoder'),
            loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='GIoULoss'),
            loss_mask=dict(type='DiceLoss', use_sigmoid=True),
        ),
        test_cfg=dict(
            nms_pre=100,
            min_bbox_size=0,
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.6),
            max_per_img=10,
            mask_thr_binary=0.8,
        ),
    ),
)
