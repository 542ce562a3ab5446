"""Every fusion on the detections and logits of one trained model.

    python tools/benchmarks/fusion_rules.py CONFIG CHECKPOINT [--learn ITERATIONS]
        [--data-root DIR] [--work-dir DIR] [--out TABLE.json]

The model has logits of all classes. Its settings of test_cfg.panoptic are those of every fusion;
each rival has its own further ones. With ``--learn``, OANet's and OCFusion's heads are trained on
top of the model, which is frozen, and measured, too. Prints a table of PQ, its difference from the
score order's with a 95% interval by bootstrap over the images, the share of occluded pairs that are
ordered rightly where the config measures it, milliseconds an image, and the peak memory in MB of
the first images; ``--out`` writes it, and a plot beside it. mmdet's head takes logits of full size:
resizing them is part of its time and memory.
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
from fusion_heads import LEARNED, MMDET, OURS, SCORE_ORDER, fusion_heads, learned_heads
from harness import make_report
from image_counts import choices, counts_of, quality, with_interval
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
from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.engine.launch import load_config
from mmbanet.evaluation import PanopticMetric
from mmbanet.messages import check_found
from mmbanet.models.fusion import select_detections
from mmbanet.models.semantic.logits import merge_things

mpl.use('Agg')

MEMORY_IMAGES = 5
DIFFERENCE = 'difference'
COLUMNS = {
    'coco_panoptic/PQ': 'PQ',
    'coco_panoptic/PQ_th': 'PQ_Th',
    'coco_panoptic/PQ_st': 'PQ_St',
    DIFFERENCE: 'PQ over score order',
    'occlusion/accuracy': 'ordered rightly, %',
    'milliseconds': 'ms an image',
    'peak_mb': 'peak MB',
}


def main() -> None:
    """Trains what learns, runs the model once and all fusions on what it gives."""
    args = parse_arguments()
    check_found('checkpoint', args.checkpoint)
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
    parser = argument_parser(__doc__)
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
    differences = compare_images(evaluators)
    return {
        name: {key: float(value) for key, value in evaluators[name].evaluate(total).items()}
        | {DIFFERENCE: differences[name]}
        | dict(milliseconds=1000 * seconds[name] / total, peak_mb=memory[name] / 1e6)
        for name in heads
    }


def compare_images(evaluators: dict[str, Evaluator]) -> dict[str, dict[str, float]]:
    """PQ over that of the score order, with its interval, of what was counted in each image."""
    qualities = {}
    for name, made in evaluators.items():
        (metric,) = (metric for metric in made.metrics if isinstance(metric, PanopticMetric))
        qualities[name] = quality(choices(len(metric.results)), counts_of(metric, 'PQ'))
    base = qualities[SCORE_ORDER]
    return {name: with_interval(values - base) for name, values in qualities.items()}


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
            if key not in row or (key, name) == (DIFFERENCE, SCORE_ORDER):
                cells.append('')
            elif key == DIFFERENCE:
                cells.append('{difference:+.2f} ({low:+.2f} to {high:+.2f})'.format(**row[key]))
            else:
                digits = 0 if key in ('milliseconds', 'peak_mb') else 2
                cells.append(f'{row[key]:.{digits}f}')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def plot(rows: dict[str, dict[str, float]], path: Path) -> None:
    """PQ over that of the score order with its interval; PQ of things and milliseconds as bars."""
    from matplotlib import pyplot as plt

    places = range(len(rows))
    figure, axes = plt.subplots(1, 3, figsize=(12, 1.2 + 0.26 * len(rows)), sharey=True)
    for axis, key in zip(axes, (DIFFERENCE, 'coco_panoptic/PQ_th', 'milliseconds')):
        values = [row[key] for row in rows.values()]
        if key == DIFFERENCE:
            middle, *ends = ([v[part] for v in values] for part in ('difference', 'low', 'high'))
            axis.hlines(places, *ends, color='tab:blue')
            axis.plot(middle, places, 'o', color='tab:blue')
            axis.axvline(0, color='black', linewidth=0.8)
        else:
            axis.barh(places, values, color='tab:blue')
        axis.set_xlabel(COLUMNS[key])
        axis.grid(alpha=0.3, axis='x')
    axes[0].set_yticks(places, rows)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
