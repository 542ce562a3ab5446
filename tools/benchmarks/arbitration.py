"""Whether stuff should get pixels back from instances: rules against the paper's, on one model.

    python tools/benchmarks/arbitration.py CONFIG CHECKPOINT [--data-root DIR] [--out FILE.json]

In the paper instances overwrite stuff. Where an instance owns a pixel that semantics call stuff,
each rule says who gets it; all else is as the config fuses. The oracle gives such a pixel to stuff
where that is right: no rule can do better by these predictions. Prints PQ with its difference from
the paper's rule and a 95% interval by bootstrap over the images, and of the contested pixels where
either is right, how many a rule gives to that one.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import json
from pathlib import Path

import numpy as np
import torch
from arbitration_rules import RULES, Contested, contested
from harness import make_report
from image_counts import choices, counts_of, panoptic_metric, quality, with_interval
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from model_outputs import model_outputs
from torch import Tensor

from mmbanet.apis import init_model
from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.engine.launch import load_config
from mmbanet.evaluation import PanopticMetric
from mmbanet.messages import check_found
from mmbanet.models.fusion import OcclusionAwareFusionHead, select_detections
from mmbanet.models.fusion.compose import compose_panoptic_map

PAPER = next(iter(RULES))


def main() -> None:
    """Runs the model once, fuses by every rule, prints the table and writes the JSON."""
    parser = argument_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', type=output_file, help='JSON file of the table')
    args = parser.parse_args()
    check_found('checkpoint', args.checkpoint)
    cfg = load_config(args)
    MMLogger.get_instance('mmengine', log_level='WARNING')
    report = compare(cfg, args.checkpoint)
    print('\n' + as_table(report))
    if args.out:
        report = make_report(
            'cpu', config=Path(args.config).name, checkpoint=Path(args.checkpoint).name, **report
        )
        args.out.write_text(json.dumps(report, indent=1) + '\n')


def compare(cfg: Config, checkpoint: str) -> dict:
    """Of each rule what the table shows, and how many pixels of things are contested."""
    model = init_model(cfg, checkpoint)
    head = model.panoptic_fusion_head
    if not isinstance(head, OcclusionAwareFusionHead):
        raise TypeError(
            'the model must have an mmbanet.OcclusionAwareFusionHead as panoptic_fusion_head, got '
            f'{type(head).__name__}'
        )
    classes = head.num_things_classes, head.num_stuff_classes
    panoptic = cfg.model.test_cfg.panoptic
    loader = Runner.build_dataloader(cfg.test_dataloader)
    metrics = {rule: panoptic_metric(cfg, model.dataset_meta, stuff_iou=False) for rule in RULES}
    judged, owned = {rule: np.zeros(2) for rule in RULES}, np.zeros(2)
    progress = ProgressBar(len(loader.dataset))
    for given in model_outputs(model, loader):
        detections = given.detections
        chosen = select_detections(detections, panoptic.score_thr, panoptic.nms)
        owner, _ = head._resolve(detections, chosen, given.image, None)
        truth = true_classes(metrics[PAPER], given.sample.img_id)
        found = contested(given, chosen, owner, truth, classes[0])
        owned += int(found.where.sum()), int((owner >= 0).sum())
        labels, scores = detections.labels[chosen], detections.scores[chosen]
        for rule, decide in RULES.items():
            takes = found.where & decide(found)
            judged[rule] += judge(found, takes, labels)
            fused = compose_panoptic_map(
                torch.where(takes, -1, owner),
                given.labels[0].int(),
                labels,
                scores,
                *classes,
                panoptic.stuff_area_limit,
            )
            sample = dict(
                img_id=given.sample.img_id,
                pred_panoptic_seg=dict(sem_seg=fused.mmdet_ids[None]),
            )
            metrics[rule].process({}, [sample])
        progress.update()
    counts = {rule: counts_of(metric, 'PQ') for rule, metric in metrics.items()}
    return dict(
        images=len(loader.dataset),
        contested=100 * float(owned[0] / owned[1]),
        rules={
            rule: dict(
                summarize(counts[rule], counts[PAPER], classes[0]),
                right=100 * float(judged[rule][0] / judged[rule][1]),
            )
            for rule in RULES
        },
    )


def true_classes(metric: PanopticMetric, img_id: int) -> Tensor:
    """(H, W) int64: the annotated class of each pixel, -1 for void."""
    true_map, truth = metric.truth.load(img_id)
    labels = np.where(truth.is_countable, truth.labels, -1)
    return torch.from_numpy(labels[np.searchsorted(truth.ids, true_map)])


def judge(found: Contested, takes: Tensor, labels: Tensor) -> np.ndarray:
    """Contested pixels given to the side that is right, and all where one is, of classes alone."""
    of_stuff = found.where & (found.semantics == found.truth)
    classes = torch.cat([labels, labels.new_tensor([-1])])[found.owner]  # -1 where nobody owns
    of_thing = found.where & (classes == found.truth)
    right = (of_stuff & takes) | (of_thing & ~takes)
    return np.array([int(right.sum()), int((of_stuff | of_thing).sum())])


def summarize(counts: np.ndarray, of_paper: np.ndarray, num_things: int) -> dict[str, dict]:
    """PQ of all classes, things and stuff of (N, C, 4), and its difference from the paper's."""
    times = choices(len(counts))
    groups = dict(PQ=slice(None), PQ_Th=slice(num_things), PQ_St=slice(num_things, None))
    found = {}
    for name, group in groups.items():
        values = quality(times, counts[:, group])
        differences = values - quality(times, of_paper[:, group])
        found[name] = dict(percent=float(values[0]), **with_interval(differences))
    return found


def as_table(report: dict) -> str:
    """A Markdown table, a line for each rule."""
    lines = [
        f'{report["contested"]:.1f}% of the pixels of instances are contested',
        '',
        '| rule | PQ | PQ_Th | PQ_St | pixels given rightly, % |',
        '|---|---|---|---|---|',
    ]
    for rule, row in report['rules'].items():
        cells = []
        for name in ('PQ', 'PQ_Th', 'PQ_St'):
            of = row[name]
            text = f'{of["percent"]:.2f}'
            if rule != PAPER:
                text += f' ({of["difference"]:+.2f}: {of["low"]:+.2f} to {of["high"]:+.2f})'
            cells.append(text)
        lines.append(f'| {rule} | ' + ' | '.join(cells) + f' | {row["right"]:.1f} |')
    return '\n'.join(lines)
