"""Every fusion on the detections and logits of one trained model.

    python tools/benchmarks/fusion_rules.py CONFIG CHECKPOINT [--learn ITERATIONS]
        [--data-root DIR] [--work-dir DIR] [--out TABLE.json]

The model has logits of all classes. Its settings of test_cfg.panoptic are those of every fusion;
each rival has its own further ones. With ``--learn``, OANet's and OCFusion's heads are trained on
top of the model, which is frozen, and measured, too. Prints a table of PQ, the share of occluded
pairs that are ordered rightly where the config measures it, milliseconds an image, and the peak
memory in MB of the first images; ``--out`` writes it, and a plot beside it. mmdet's head takes
logits of full size: resizing them is part of its time and memory.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import islice
from pathlib import Path

import matplotlib as mpl
import torch
from fusion_learning import train_fusion_head
from harness import make_report
from memory import peak_extra_bytes
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmengine.utils import ProgressBar
from model_outputs import Outputs, model_outputs
from torch import nn

from mmbanet.apis import init_model
from mmbanet.engine.checkpoints import check_checkpoint
from mmbanet.engine.launch import argument_parser, load_config, output_file
from mmbanet.models.fusion import select_detections
from mmbanet.models.semantic.logits import merge_things
from mmbanet.registry import MODELS

mpl.use('Agg')

MEMORY_IMAGES = 5
MMDET = "mmdet's heuristic"
COMMON = ('score_thr', 'nms', 'stuff_area_limit')
OURS = {
    'score order (Panoptic FPN)': dict(order=None),
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
COLUMNS = {
    'coco_panoptic/PQ': 'PQ',
    'coco_panoptic/PQ_th': 'PQ_Th',
    'coco_panoptic/PQ_st': 'PQ_St',
    'occlusion/accuracy': 'ordered rightly, %',
    'milliseconds': 'ms an image',
    'peak_mb': 'peak MB',
}


def main() -> None:
    """Trains what learns, runs the model once and all fusions on what it gives."""
    args = parse_arguments()
    check_checkpoint(args.checkpoint)
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    MMLogger.get_instance('mmengine', log_level='WARNING')
    heads = fusion_heads(cfg)
    if args.learn:
        heads |= learned_heads(cfg, args.learn)
    rows = measure(cfg, heads, args.images)
    print('\n' + as_table(rows))
    if args.out:
        report = make_report(
            'cpu',
            config=Path(args.config).name,
            checkpoint=Path(args.checkpoint).name,
            learned_iterations=args.learn,
            fusions=rows,
        )
        args.out.write_text(json.dumps(report, indent=1) + '\n')
        plot(rows, args.out.with_suffix('.png'))


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--learn', type=int, metavar='ITERATIONS', help='train the fusions that learn'
    )
    parser.add_argument('--images', type=int, help='only the first so many')
    parser.add_argument('--out', type=output_file, help='JSON file of the table')
    args = parser.parse_args()
    if min(1 if n is None else n for n in (args.learn, args.images)) < 1:
        parser.error('--learn and --images must be at least 1')
    return args


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


def measure(
    cfg: Config, heads: dict[str, nn.Module], images: int | None
) -> dict[str, dict[str, float]]:
    """Metrics, milliseconds and memory of each head, on the predictions of one run.

    Args:
        cfg: With ``load_from``.
        heads: By name.
        images: Only the first so many; None: all.
    """
    model = init_model(cfg, cfg.load_from)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    settings = cfg.model.test_cfg.panoptic
    fusions = {name: fusion(name, head, settings) for name, head in heads.items()}
    evaluators = {name: evaluator(cfg, name, loader.dataset.metainfo) for name in heads}
    features = {head.needs_roi_features for head in heads.values() if hasattr(head, 'classifier')}
    outputs = model_outputs(model, loader, *features)
    total = min(images or len(loader.dataset), len(loader.dataset))
    seconds, memory = dict.fromkeys(heads, 0.0), dict.fromkeys(heads, 0)
    progress = ProgressBar(total)
    for number, given in enumerate(islice(outputs, total)):
        for name, fuse in fusions.items():
            start = time.perf_counter()
            result = fuse(given)
            seconds[name] += time.perf_counter() - start
            if number < MEMORY_IMAGES:
                peak = peak_extra_bytes(lambda fuse=fuse, given=given: fuse(given), 'cpu')
                memory[name] = max(memory[name], peak)
            given.sample.pred_panoptic_seg = result
            evaluators[name].process([deepcopy(given.sample)], given.batch)
        progress.update()
    return {
        name: {key: float(value) for key, value in evaluators[name].evaluate(total).items()}
        | dict(milliseconds=1000 * seconds[name] / total, peak_mb=memory[name] / 1e6)
        for name in heads
    }


def evaluator(cfg: Config, name: str, metainfo: dict) -> Evaluator:
    """The config's metrics of panoptic maps."""
    wanted = {'mmbanet.PanopticMetric'}
    if name in OURS or name in LEARNED:  # others do not say who is in front
        wanted.add('mmbanet.OcclusionMetric')
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    made = Evaluator([deepcopy(metric) for metric in metrics if metric['type'] in wanted])
    made.dataset_meta = metainfo
    return made


def fusion(name: str, head: nn.Module, settings: ConfigDict) -> Callable[[Outputs], PixelData]:
    """A head's prediction from what the model gives of an image."""

    @torch.no_grad()
    def fuse(given: Outputs) -> PixelData:
        detections, logits = given.detections, given.logits
        if name == MMDET:
            chosen = select_detections(detections, settings.score_thr, settings.nms)
            whole = logits.rows @ logits.logits.float() @ logits.cols.T
            whole = merge_things(whole, head.num_things_classes)
            return head.predict([detections[chosen]], [whole])[0]
        if head.needs_semantic_logits:
            return head.predict([detections], [logits])[0]
        return head.predict([detections], [given.labels], [given.image])[0]

    return fuse


def as_table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table, a line for each fusion; times and memory without decimals."""
    lines = ['| fusion | ' + ' | '.join(COLUMNS.values()) + ' |', '|---' * (len(COLUMNS) + 1) + '|']
    for name, row in rows.items():
        cells = []
        for key in COLUMNS:
            digits = 0 if key in ('milliseconds', 'peak_mb') else 2
            cells.append(f'{row[key]:.{digits}f}' if key in row else '')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def plot(rows: dict[str, dict[str, float]], path: Path) -> None:
    """PQ, PQ of things and milliseconds of each fusion."""
    from matplotlib import pyplot as plt

    shown = ('coco_panoptic/PQ', 'coco_panoptic/PQ_th', 'milliseconds')
    figure, axes = plt.subplots(1, 3, figsize=(12, 1.2 + 0.26 * len(rows)), sharey=True)
    for axis, key in zip(axes, shown):
        values = [row[key] for row in rows.values()]
        axis.barh(range(len(rows)), values, color='tab:blue')
        axis.set_xlabel(COLUMNS[key])
        axis.grid(alpha=0.3, axis='x')
        if key != 'milliseconds':  # differences are small
            spread = max(values) - min(values)
            axis.set_xlim(left=max(0, min(values) - spread / 2))
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
