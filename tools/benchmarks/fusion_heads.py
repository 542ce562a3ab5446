"""The fusion heads that fusion_rules.py compares, by the names of its rows."""

from __future__ import annotations

from pathlib import Path

from fusion_learning import train_fusion_head
from mmengine.config import Config, ConfigDict
from torch import nn

from mmbanet.registry import MODELS

MMDET = "mmdet's heuristic"
COMMON = ('score_thr', 'nms', 'stuff_area_limit')
SCORE_ORDER = 'score order (Panoptic FPN)'
OURS = {
    SCORE_ORDER: dict(order=None),
    'mean colour (BANet)': dict(order=dict(type='mmbanet.MeanColor')),
    'contour': dict(order=dict(type='mmbanet.ContourContrast')),
}
RIVALS = {
    'UPSNet': ('upsnet', {}),
    'UPSNet, boxes only': ('upsnet', dict(outside='exclude')),
    'UPSNet, without unknown': ('upsnet', dict(unknown=False)),
    'UPSNet, boxes only, without unknown': ('upsnet', dict(outside='exclude', unknown=False)),
    'EfficientPS': ('efficientps', {}),
    'EfficientPS, boxes only': ('efficientps', dict(outside='exclude')),
    'EfficientPS, boxes only, masks x 4': (
        'efficientps',
        dict(outside='exclude', mask_logit_scale=4.0),
    ),
    'JSIS-Net': ('jsis', {}),
    'mask-wise': ('mask_wise', {}),
    'mask-wise, stuff as masks': ('mask_wise', dict(stuff='masks')),
}
# Heads that are trained, and what each is read as: readings differ in prediction alone.
TRAINED = {
    'oanet_truth': dict(type='mmbanet.SpatialRankingHead'),
    'oanet_predicted': dict(type='mmbanet.SpatialRankingHead', learned_from='predicted'),
    'ocfusion': dict(type='mmbanet.InstanceOcclusionHead', same_class=True),
}
LEARNED = {
    'OANet': ('oanet_truth', {}),
    'OANet, contested cells': ('oanet_truth', dict(scored='contested')),
    'OANet, of predicted masks': ('oanet_predicted', {}),
    'OANet, of predicted masks, contested cells': ('oanet_predicted', dict(scored='contested')),
    'OCFusion, greedy': ('ocfusion', dict(fusion='greedy')),
    'OCFusion, order': ('ocfusion', dict(fusion='order')),
}
# Those that learn from annotated masks have nothing to learn where these never overlap.
LEARNS_WITHOUT_OVERLAP = ('oanet_predicted',)


def fusion_heads(cfg: Config) -> dict[str, nn.Module]:
    """The heads that learn nothing, by name."""
    settings = cfg.model.test_cfg.panoptic
    common = {name: settings[name] for name in COMMON}
    counts = class_counts(cfg)
    ours = {
        name: dict(type='mmbanet.OcclusionAwareFusionHead', test_cfg=settings, **counts, **order)
        for name, order in OURS.items()
    }
    rivals = {
        name: dict(
            type='mmbanet.LogitFusionHead', rule=rule, test_cfg=dict(common, **own), **counts
        )
        for name, (rule, own) in RIVALS.items()
    }
    limits = ConfigDict(
        mask_overlap=settings.removal_thr, stuff_area_limit=settings.stuff_area_limit
    )
    theirs = {MMDET: dict(type='mmdet.HeuristicFusionHead', test_cfg=limits, **counts)}
    return {name: MODELS.build(head) for name, head in (theirs | ours | rivals).items()}


def class_counts(cfg: Config) -> dict[str, int]:
    """Of things and of stuff."""
    names = ('num_things_classes', 'num_stuff_classes')
    return {name: cfg.model.panoptic_fusion_head[name] for name in names}


def learned_heads(cfg: Config, iterations: int) -> dict[str, nn.Module]:
    """The heads that learn, by name, trained on top of the frozen model in ``cfg.work_dir``."""
    mask_head = cfg.model.roi_head.mask_head
    sizes = dict(
        in_channels=mask_head.in_channels,
        # OCFusion's proportions: 512 and 1024 of 256.
        channels=2 * mask_head.in_channels,
        fc_channels=4 * mask_head.in_channels,
        roi_size=cfg.model.roi_head.mask_roi_extractor.roi_layer.output_size,
    )
    overlapping = cfg.train_dataloader.dataset.get('instances_ann_file') is not None
    configs, weights = {}, {}
    for name, head in TRAINED.items():
        if not overlapping and name not in LEARNS_WITHOUT_OVERLAP:
            print(f'{name} is left out: annotated masks do not overlap, it has nothing to learn')
            continue
        configs[name] = dict(head, **class_counts(cfg), **(sizes if name == 'ocfusion' else {}))
        print(f'{name} learns for {iterations} iterations', flush=True)
        folder = Path(cfg.work_dir) / name
        weights[name] = train_fusion_head(cfg, configs[name], iterations, folder)
    heads = {}
    for row, (name, reading) in LEARNED.items():
        if name in configs:
            settings = dict(configs[name], **reading, test_cfg=cfg.model.test_cfg.panoptic)
            heads[row] = MODELS.build(settings).eval()
            heads[row].load_state_dict(weights[name])
    return heads
