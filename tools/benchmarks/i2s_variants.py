"""What each part of the I2S head is worth, on a trained model's frozen features.

    python tools/benchmarks/i2s_variants.py CONFIG CHECKPOINT [--iterations 300] [--seeds 0 1 2]
        [--data-root DIR] [--out FILE.json] [--cfg-options ...]

All but the I2S head stays as it was trained. For each variant a head is trained anew from each
seed's weights, on the same batches as the others, with the config's optimiser and its schedule in
the same proportions, without flips and crops. It is then tested with the detections that go to
fusion, as ever, and with the annotated boxes in their place. Prints mIoU and PQ of stuff, means
over the seeds, and in brackets what they differ from a head that sees no instances, with a 95%
interval by bootstrap over the images, the same for both. The same command gives the same figures.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from frozen_features import ANNOTATED, DETECTIONS, Frozen, freeze, without_chance
from fusion_learning import shorten
from harness import make_report
from i2s_heads import HALF, NO_INLAY, VARIANTS, LinearHead, Variant, VariantHead
from image_counts import choices, counts_of, mean_iou, panoptic_metric, quality, with_interval
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import set_random_seed
from torch import Tensor, nn

from mmbanet.apis import init_model
from mmbanet.cli.arguments import argument_parser, output_file
from mmbanet.engine.launch import load_config
from mmbanet.messages import check_found
from mmbanet.models import I2SHead
from mmbanet.models.fusion.compose import compose_panoptic_map
from mmbanet.models.roi.gt_boxes import sample_gt_boxes
from mmbanet.models.semantic.logits import label_maps

AS_TRAINED = 'as trained, with the rest'
METRICS = ('mIoU_St', 'PQ_St')


class Counts(NamedTuple):
    """What is counted of stuff in each of N images.

    Attributes:
        quality: (N, S, 4), of PQ.
        iou: (N, S, 2), intersection and union.
    """

    quality: np.ndarray
    iou: np.ndarray

    def values(self, times: np.ndarray) -> np.ndarray:
        """(2, R): :data:`METRICS` in percent where images count ``times`` (R, N)."""
        return np.stack([mean_iou(times, self.iou), quality(times, self.quality)])


def main() -> None:
    """Computes features, trains and tests all variants, prints the table and writes the JSON."""
    parser = argument_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--iterations', type=int, default=300, help='of a head (default: 300)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='(default: 0 1 2)')
    parser.add_argument('--out', type=output_file, help='JSON file of the table')
    args = parser.parse_args()
    if args.iterations < 1:
        parser.error(f'--iterations must be at least 1, got {args.iterations}')
    check_found('checkpoint', args.checkpoint)
    cfg = load_config(args)
    if cfg.model.get('i2s_head') is None:
        parser.error(f'{args.config} has no i2s_head')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    torch.use_deterministic_algorithms(True)

    model = init_model(cfg, args.checkpoint)
    pipeline = without_chance(cfg.train_dataloader.dataset.pipeline)
    train, test = (
        freeze(model, cfg[f'{split}_dataloader'].dataset, pipeline) for split in ('train', 'test')
    )
    tester = Tester(cfg, model.dataset_meta, test)
    counts = {AS_TRAINED: [tester.counts(model.i2s_head)]}
    for name, variant in VARIANTS.items():
        print(f'\n{name}', end='', flush=True)
        counts[name] = []
        for seed in args.seeds:
            head = build_head(cfg, variant, model.i2s_head, seed)
            train_head(cfg, head, variant.boxes, train, args.iterations, seed)
            counts[name].append(tester.counts(head))
            print('.', end='', flush=True)
    rows = summarize(counts)
    print('\n\n' + as_table(rows))
    if args.out:
        report = make_report(
            'cpu',
            config=Path(args.config).name,
            checkpoint=Path(args.checkpoint).name,
            images=[len(train), len(test)],
            iterations=args.iterations,
            seeds=args.seeds,
            variants=rows,
        )
        args.out.write_text(json.dumps(report, indent=1) + '\n')


def build_head(cfg: Config, variant: Variant, trained: I2SHead, seed: int) -> nn.Module:
    """A head with the seed's weights."""
    set_random_seed(seed)
    if variant.settings is None:
        return LinearHead(trained)
    settings = {name: value for name, value in cfg.model.i2s_head.items() if name != 'type'}
    head = VariantHead(**settings | variant.settings)
    head.init_weights()
    return head


def train_head(
    cfg: Config, head: nn.Module, boxes: str, images: list[Frozen], iterations: int, seed: int
) -> None:
    """Trains it on the seed's batches and leaves it in evaluation mode."""
    set_random_seed(seed)
    optimizer = build_optim_wrapper(head, cfg.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(item, default_args=dict(optimizer=optimizer))
        for item in shorten(cfg, iterations)
    ]
    head.train()
    for batch in batches(images, cfg.train_dataloader.batch_size, iterations, seed):
        chosen = [choose_boxes(item, boxes, cfg.model.train_cfg.i2s.gt_share) for item in batch]
        found, instances = zip(*chosen)
        losses = head.loss(
            torch.stack([item.semantic for item in batch]),
            torch.cat(instances),
            bbox2roi(found),
            [item.sample for item in batch],
        )
        optimizer.update_params(losses['loss_i2s'])
        for scheduler in schedulers:
            scheduler.step()
    head.eval()


def batches(images: list[Frozen], size: int, iterations: int, seed: int) -> Iterator[list[Frozen]]:
    """The images in a random order again and again."""
    generator, order = torch.Generator().manual_seed(seed), []
    for _ in range(iterations):
        while len(order) < size:
            order += torch.randperm(len(images), generator=generator).tolist()
        yield [images[i] for i in order[:size]]
        del order[:size]


def choose_boxes(item: Frozen, kind: str, share: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Boxes (K, 4) to train with, and F_ins of them: of annotated ones a random share."""
    if kind == HALF:
        kind = ANNOTATED if torch.rand(()) < 0.5 else DETECTIONS
    boxes, instances = item.boxes[kind], item.instances[kind]
    if kind == ANNOTATED:
        (chosen,) = sample_gt_boxes([torch.arange(len(boxes))], share)
        boxes, instances = boxes[chosen], instances[chosen]
    return boxes, instances


class Tester:
    """Tests heads on frozen images.

    Args:
        cfg: With ``test_evaluator``, of whose metrics that of PQ counts.
        dataset_meta: The classes.
        images: To test on.
    """

    def __init__(self, cfg: Config, dataset_meta: dict, images: list[Frozen]) -> None:
        self.metric = panoptic_metric(cfg, dataset_meta, stuff_iou=True)
        fusion = cfg.model.panoptic_fusion_head
        self.classes = fusion.num_things_classes, fusion.num_stuff_classes
        self.limit = cfg.model.test_cfg.panoptic.stuff_area_limit
        self.images = images

    @torch.no_grad()
    def counts(self, head: nn.Module) -> dict[str, Counts]:
        """By the boxes that it sees."""
        return {kind: self._count(head, kind) for kind in (DETECTIONS, ANNOTATED)}

    def _count(self, head: nn.Module, kind: str) -> Counts:
        self.metric.results.clear()
        for item in self.images:
            meta = item.sample.metainfo
            rois = bbox2roi([item.boxes[kind]])
            shapes = [meta['img_shape'][:2]]
            logits = head(item.semantic[None], item.instances[kind], rois, shapes)
            labels = label_maps(logits, [meta], True, self.classes[0], 'all')[0]
            things = item.things
            panoptic = compose_panoptic_map(
                item.owner, labels[0], things.labels, things.scores, *self.classes, self.limit
            )
            sample = dict(
                img_id=meta['img_id'],
                pred_panoptic_seg=dict(sem_seg=panoptic.mmdet_ids[None]),
                pred_sem_seg=dict(sem_seg=labels),
            )
            self.metric.process({}, [sample])
        first = self.classes[0]
        return Counts(*(counts_of(self.metric, name)[:, first:] for name in ('PQ', 'IoU')))


def summarize(counts: dict[str, Sequence[dict[str, Counts]]]) -> dict[str, dict]:
    """By head and boxes that it sees, of each metric the mean over seeds and its difference.

    Args:
        counts: Of each head, by seed.

    Returns:
        ``percent``, ``seeds`` (each one's) and ``difference`` from :data:`NO_INLAY` with the bounds
        ``low`` and ``high`` of its interval.
    """
    times = choices(len(counts[NO_INLAY][0][DETECTIONS].iou))
    rows = {name: {} for name in counts}
    for kind in (DETECTIONS, ANNOTATED):
        # (seeds, metrics, choices of images)
        values = {
            name: np.stack([of_seed[kind].values(times) for of_seed in by_seed])
            for name, by_seed in counts.items()
        }
        for name, found in values.items():
            differences = found.mean(axis=0) - values[NO_INLAY].mean(axis=0)
            rows[name][kind] = {
                metric: dict(
                    percent=float(of_seeds.mean()),
                    seeds=of_seeds.tolist(),
                    **with_interval(difference),
                )
                for metric, of_seeds, difference in zip(METRICS, found[:, :, 0].T, differences)
            }
    return rows


def as_table(rows: dict[str, dict]) -> str:
    """A Markdown table, a line for each head."""
    columns = [(kind, metric) for kind in (DETECTIONS, ANNOTATED) for metric in METRICS]
    heads = [f'{metric}, {kind}' for kind, metric in columns]
    lines = ['| head | ' + ' | '.join(heads) + ' |', '|---' * (len(heads) + 1) + '|']
    for name, row in rows.items():
        cells = []
        for kind, metric in columns:
            of = row[kind][metric]
            text = f'{of["percent"]:.2f}'
            if name != NO_INLAY:
                text += f' ({of["difference"]:+.2f}: {of["low"]:+.2f} to {of["high"]:+.2f})'
            cells.append(text)
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)
