"""Tables 1, 2, 3, 4, 6 and figure 6: layout, the paper's figures on COCO, the configs of each.

And a table of ours, of the weight of the semantic losses.
"""

from __future__ import annotations

from typing import NamedTuple

# Parts of the configs' names, by data set; Table 4 has a model of its own on the scenes.
DATA = dict(
    coco=dict(backbone='r50', deeper='r101', end='1x_coco', oracles_end='1x_coco'),
    scenes=dict(backbone='r18', deeper='r34', end='scenes', oracles_end='256_scenes'),
    camvid=dict(backbone='r18', deeper='r34', end='camvid', oracles_end='camvid'),
    photo_scenes=dict(backbone='r18', deeper='r34', end='photo_scenes', oracles_end='photo_scenes'),
)
# Backbones in place of the paper's, by data set.
SMALL = dict(R50='R18', R101='R34')
BACKBONES = dict(coco={}, scenes=SMALL, camvid=SMALL, photo_scenes=SMALL)
QUALITIES = tuple(f'{name}{group}' for group in ('', '_th', '_st') for name in ('PQ', 'SQ', 'RQ'))
OF_ALL_AND_GROUPS = ('PQ', 'PQ_th', 'PQ_st')


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        cells: What stands in front of the figures.
        config: Path under ``configs/`` without suffix, with the fields of ``DATA``; None for a
            model that only the paper has figures of.
        paper: The paper's figures on COCO, in the order of the table's metrics; nan for none.
        checkpoint_of: The config that is trained, where that is another one.
        starts_from: The trained config whose checkpoint its training starts from.
    """

    cells: tuple[str, ...]
    config: str | None
    paper: tuple[float, ...]
    checkpoint_of: str | None = None
    starts_from: str | None = None


class Table(NamedTuple):
    """A table.

    Attributes:
        title: Its caption.
        columns: Heads of the cells in front.
        metrics: Names of the figures.
        rows: From top to bottom.
        subset: Where the paper's figures are from.
        rows_add_up: Whether each row is the one above with something added.
        without: Name of the row whose cells are empty.
        compared_with: The row that others are compared with.
    """

    title: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    subset: str = 'COCO val'
    rows_add_up: bool = False
    without: str = 'baseline'
    compared_with: int = 0


NONE = float('nan')
FULL_LOSSES = '_full_losses'
BANET = 'banet/banet_{backbone}_fpn_{end}'
DFM = 'banet/banet_{backbone}_fpn_dfm_{end}'
DEEPER = 'banet/banet_{deeper}_fpn_dfm_{end}'
SHARP = 'banet/banet_{backbone}_fpn_dfm_{oracles_end}'
PANOPTIC_FPN = 'panoptic_fpn/panoptic_fpn_{backbone}_fpn_{end}'


def ablation(parts: str, backbone: str = 'backbone') -> str:
    """Config of a row of Table 2."""
    return f'ablation/banet_{{{backbone}}}_fpn_{parts}_{{end}}'


def oracle(parts: str) -> str:
    """Config of a row of Table 4."""
    return f'oracles/banet_{{backbone}}_fpn_dfm_gt_{parts}_{{end}}'


TABLES = {
    '1': Table(
        'Comparison with other methods († refers to deformable convolution)',
        ('model', 'subset', 'backbone', 'what differs'),
        QUALITIES,
        (
            Row(
                ('JSIS-Net', 'val', 'R50', 'fusion by mask probability'),
                'jsis/jsis_panoptic_fpn_{backbone}_fpn_{end}',
                (26.9, 72.4, 35.7, 29.3, 72.1, 39.2, 23.3, 72.0, 30.4),
                checkpoint_of=PANOPTIC_FPN,
            ),
            Row(
                ('Panoptic FPN', 'val', 'R50', 'heuristic'),
                PANOPTIC_FPN,
                (39.0, NONE, NONE, 45.9, NONE, NONE, 28.7, NONE, NONE),
            ),
            Row(
                ('OANet', 'val', 'R50', 'learned order by class'),
                'oanet/oanet_{backbone}_fpn_{end}',
                (39.0, 77.1, 47.8, 48.3, 81.4, 58.0, 24.9, 70.6, 32.5),
            ),
            Row(
                ('AUNet', 'val', 'R50', 'attention to RPN and masks'),
                'aunet/aunet_{backbone}_fpn_{end}',
                (39.6, NONE, NONE, 49.1, NONE, NONE, 25.2, NONE, NONE),
            ),
            Row(
                ('BANet', 'val', 'R50', ''),
                BANET,
                (41.1, 77.2, 51.0, 49.1, 80.4, 60.3, 29.1, 72.4, 37.1),
            ),
            Row(
                ('UPSNet†', 'val', 'R50', 'fusion by logits, its loss'),
                'upsnet/upsnet_{backbone}_fpn_dfm_{end}',
                (42.5, 78.0, 52.4, 48.5, 79.5, 59.6, 33.4, 76.3, 41.6),
            ),
            Row(
                ('BANet†', 'val', 'R50', ''),
                DFM,
                (43.0, 79.0, 52.8, 50.5, 81.1, 61.5, 31.8, 75.9, 39.4),
            ),
            Row(
                ('AUNet', 'test-dev', 'X152', ''),
                None,
                (46.5, 81.0, 56.1, 55.9, 83.7, 66.3, 32.5, 77.0, 40.7),
            ),
            Row(
                ('UPSNet†', 'test-dev', 'DCN-101', ''),
                None,
                (46.6, 80.5, 56.9, 53.2, 81.5, 64.6, 36.7, 78.9, 45.3),
            ),
            # Measured on an evaluation server, from what the config ..._test-dev.py writes.
            Row(
                ('BANet†', 'test-dev', 'DCN-101', ''),
                None,
                (47.3, 80.8, 57.5, 54.9, 82.1, 66.3, 35.9, 78.9, 44.3),
            ),
            # Not in the paper.
            Row(
                ('OCFusion', 'val', 'R50', 'learned order of pairs, the rest frozen'),
                'ocfusion/ocfusion_{backbone}_fpn_{end}',
                (NONE,) * len(QUALITIES),
                starts_from=PANOPTIC_FPN,
            ),
            Row(
                ('EfficientPS fusion', 'val', 'R50', 'fusion by logits'),
                'efficientps/efficientps_{backbone}_fpn_{end}',
                (NONE,) * len(QUALITIES),
                checkpoint_of=ablation('baseline'),
            ),
            Row(
                ('BANet†, contour', 'val', 'R50', 'order by contour, no duplicates'),
                'banet/banet_{backbone}_fpn_dfm_{end}_contour',
                (NONE,) * len(QUALITIES),
                checkpoint_of=DFM,
            ),
            Row(
                ('mmbanet', 'val', 'R50', 'semantic losses at full weight'),
                BANET + FULL_LOSSES,
                (NONE,) * len(QUALITIES),
            ),
        ),
        subset='COCO',
        compared_with=1,
    ),
    '2': Table(
        'Ablation study',
        ('SIM', 'OCM', 'S2I', 'DFM', 'OH'),
        (*QUALITIES, 'AP_mask', 'mIoU_St'),
        (
            Row(
                ('', '', '', '', ''),
                ablation('baseline'),
                (39.1, 77.3, 48.1, 46.7, 80.4, 56.6, 27.7, 72.5, 35.4, 34.2, 38.6),
            ),
            Row(
                ('x', '', '', '', ''),
                ablation('sim'),
                (39.5, 78.0, 48.6, 47.1, 81.2, 57.1, 28.0, 73.1, 35.8, 34.6, 39.5),
            ),
            Row(
                ('x', 'x', '', '', ''),
                ablation('sim_ocm'),
                (40.0, 78.4, 49.1, 47.2, 81.6, 57.0, 29.2, 73.5, 37.1, 34.8, 39.7),
            ),
            Row(
                ('x', 'x', 'x', '', ''),
                ablation('sim_ocm_s2i'),
                (40.3, 78.1, 49.5, 47.5, 81.5, 57.4, 29.4, 73.2, 37.3, 35.1, 39.7),
                checkpoint_of=BANET,
            ),
            Row(
                ('x', 'x', 'x', 'x', ''),
                ablation('sim_ocm_s2i_dfm'),
                (41.8, 79.6, 50.8, 48.5, 82.1, 58.3, 31.7, 75.9, 39.4, 36.4, 41.1),
                checkpoint_of=DFM,
            ),
            Row(
                ('x', 'x', 'x', 'x', 'x'),
                DFM,
                (43.0, 79.0, 52.8, 50.5, 81.1, 61.5, 31.8, 75.9, 39.5, 36.4, 41.1),
            ),
        ),
        rows_add_up=True,
    ),
    '3': Table(
        'Different backbones',
        ('backbone', 'OH'),
        OF_ALL_AND_GROUPS,
        (
            Row(('R50', ''), ablation('sim_ocm_s2i_dfm'), (41.8, 48.5, 31.7), checkpoint_of=DFM),
            Row(
                ('R101', ''),
                ablation('sim_ocm_s2i_dfm', 'deeper'),
                (42.5, 48.6, 33.4),
                checkpoint_of=DEEPER,
            ),
            Row(('R50', 'x'), DFM, (43.0, 50.5, 31.8)),
            Row(('R101', 'x'), DEEPER, (44.0, 51.0, 33.4)),
        ),
    ),
    '4': Table(
        'Bottleneck analysis: ground truth in place of intermediate results',
        ('GT Box', 'GT ICA', 'GT Occ', 'GT Seg'),
        OF_ALL_AND_GROUPS,
        (
            Row(('', '', '', ''), SHARP, (43.0, 50.5, 31.8)),
            Row(('', '', 'x', ''), oracle('occlusion'), (44.6, 53.2, 31.8), SHARP),
            Row(('x', '', '', ''), oracle('boxes'), (47.1, 56.6, 32.8), SHARP),
            Row(('x', 'x', '', ''), oracle('boxes_classes'), (58.4, 74.8, 33.5), SHARP),
            Row(
                ('x', 'x', 'x', ''),
                oracle('boxes_classes_occlusion'),
                (59.3, 76.3, 33.5),
                SHARP,
            ),
            Row(('', '', '', 'x'), oracle('semantics'), (60.8, 50.5, 76.4), SHARP),
        ),
        without='no ground truth',
    ),
    '6': Table(
        'RoIInlay and RoIUpsample, with SIM alone',
        ('operator',),
        ('PQ', 'SQ', 'RQ'),
        (
            Row(('RoIUpsample',), ablation('sim_roi_upsample'), (39.4, 77.0, 48.7)),
            Row(('RoIInlay',), ablation('sim'), (39.5, 78.0, 48.7)),
        ),
    ),
    # Not in the paper, but for its weights.
    'losses': Table(
        'Weight of the semantic losses',
        ('model', 'semantic head', 'I2S'),
        (*OF_ALL_AND_GROUPS, 'AP_mask', 'mIoU_St'),
        (
            Row(('baseline', '0.5', ''), ablation('baseline'), (39.1, 46.7, 27.7, 34.2, 38.6)),
            Row(('baseline', '1.0', ''), ablation('baseline') + FULL_LOSSES, (NONE,) * 5),
            Row(('BANet', '0.2', '0.3'), BANET, (41.1, 49.1, 29.1, NONE, NONE)),
            Row(('BANet', '1.0', '1.0'), BANET + FULL_LOSSES, (NONE,) * 5),
        ),
        compared_with=1,
    ),
}

# What stands between the image and the ground truth.
FIGURE_6 = (
    Row(('baseline',), ablation('baseline'), ()),
    Row(('bidirectional',), ablation('sim_ocm_s2i'), (), checkpoint_of=BANET),
    Row(('+ OH',), BANET, ()),
)
