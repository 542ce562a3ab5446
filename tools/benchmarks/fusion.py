"""The fusion head against mmdet's heuristic one: ``python tools/benchmarks/fusion.py``.

Prints a Markdown table and writes it as JSON and as a plot. Both heads fuse the same masks with the
paper's thresholds: ``OcclusionAwareFusionHead`` (with NMS) from the logits of all 133 classes of
COCO, mmdet's ``HeuristicFusionHead`` from those of 53 stuff classes and one for things. Each case
is measured twice: with full-size logits given to both, and with logits of stride 4 given to both,
which mmdet first resizes to full size. The heads take turns, so both times come from one run. The
floor is the time in which the bytes that must move (masks, image and logits read, map written) move
at the machine's measured copy bandwidth.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
from collections.abc import Callable
from pathlib import Path

import fusion_inputs as given
import matplotlib as mpl
import torch
from fusion_inputs import STUFF, THINGS, Case
from harness import make_report, parse_arguments, write_report
from memory import available_bytes, peak_extra_bytes
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from timing import copy_bandwidth, time_side_by_side
from torch import Tensor

from mmbanet.models.fusion import OcclusionAwareFusionHead

mpl.use('Agg')
OURS, THEIRS = 'mmbanet', 'mmdet'
FULL, STRIDE_4 = 'full size', 'stride 4'
MEMORY_TARGET = 0.5
OUTPUT_BYTES = 8  # of a pixel of the map, int64
SETTINGS = dict(
    score_thr=0.6,
    nms=dict(type='nms', iou_threshold=given.NMS_IOU),
    occlusion_thr=0.2,
    removal_thr=0.5,
    stuff_area_limit=4096,
)


def main() -> None:
    """Measures every case that fits in memory and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seconds', type=float, default=4, help='for a row of the table')
    parser.add_argument(
        '--objects', type=int, nargs='+', help='only so many, at 800x1333 (default: all cases)'
    )
    args = parse_arguments(parser)

    cases = [Case(n, 800, 1333) for n in args.objects] if args.objects else given.CASES
    check(args.device)
    bandwidth = copy_bandwidth(args.device)
    rows = []
    print_header()
    for case in cases:
        available = available_bytes(args.device)
        if case.bytes_needed > available:
            print(
                f'| skipped: {case.objects} objects, {case.height}x{case.width}: needs about '
                f'{case.bytes_needed / 1e9:.1f} GB, {available / 1e9:.1f} GB are free |'
            )
            continue
        for row in measure(case, args.device, args.seconds, bandwidth):
            rows.append(row)
            print_row(row)
    report = make_report(args.device, copy_bandwidth_gb_per_s=bandwidth / 1e9, rows=rows)
    path = write_report(report, args.out, f'fusion_{args.device}')
    plot(report, path.with_suffix('.png'))
    print(f'{path} and .png')


def make_heads(**settings) -> tuple:
    """Ours and mmdet's."""
    ours = OcclusionAwareFusionHead(THINGS, STUFF, **settings, test_cfg=SETTINGS)
    cfg = ConfigDict(
        mask_overlap=SETTINGS['removal_thr'], stuff_area_limit=SETTINGS['stuff_area_limit']
    )
    return ours, HeuristicFusionHead(THINGS, STUFF, cfg)


@torch.no_grad()
def check(device: str) -> None:
    """With the rule of mmdet's head, ours returns its map, or the comparison would mean nothing."""
    case = Case(20, 300, 400)
    instances = given.random_instances(case, device)
    logits = given.full_size(given.random_logits(case, device), case)
    ours, theirs = make_heads(order=None)
    (own,) = ours.predict([instances], [logits])
    (expected,) = theirs.predict([instances], [given.mmdet_channels(logits)])
    if not torch.equal(own.sem_seg, expected.sem_seg):
        raise RuntimeError("the heads differ on the same input with mmdet's rule")


@torch.no_grad()
def measure(case: Case, device: str, seconds: float, bandwidth: float) -> list[dict]:
    """Milliseconds and peak extra bytes of both heads, from logits of stride 4 and of full size.

    The floor is for ``bandwidth`` bytes a second.
    """
    instances, image = given.random_instances(case, device), given.random_image(case, device)
    logits = given.random_logits(case, device)
    small = given.mmdet_channels(logits)
    functions = fusions(instances, image, logits, lambda: given.full_size(small, case))
    others = instances.masks.nbytes + image.nbytes + OUTPUT_BYTES * case.height * case.width
    floor_ms = (others + logits.nbytes) / bandwidth * 1e3
    rows = [measure_row(case, STRIDE_4, functions, device, seconds, floor_ms)]

    logits = given.full_size(logits, case)
    large = given.mmdet_channels(logits)
    functions = fusions(instances, image, logits, lambda: large)
    floor_ms = (others + logits.nbytes) / bandwidth * 1e3
    return [measure_row(case, FULL, functions, device, seconds, floor_ms), *rows]


def fusions(
    instances: InstanceData, image: Tensor, logits: Tensor, mmdet_logits: Callable[[], Tensor]
) -> dict[str, Callable]:
    """Both heads' predictions, as functions without arguments."""
    ours, theirs = make_heads()
    return {
        OURS: lambda: ours.predict([instances], [logits], [image]),
        THEIRS: lambda: theirs.predict([instances], [mmdet_logits()]),
    }


def measure_row(
    case: Case,
    logits: str,
    functions: dict[str, Callable],
    device: str,
    seconds: float,
    floor_ms: float,
) -> dict:
    """One row of the table."""
    (result,) = functions[OURS]()
    return {
        'logits': logits,
        'objects': len(result.detections),
        'height': case.height,
        'width': case.width,
        'overlapping_pairs': len(result.occlusion.pairs),
        'target': case.target,
        'floor_ms': floor_ms,
        'ms': time_side_by_side(functions, device, seconds),
        'bytes': {name: peak_extra_bytes(run, device) for name, run in functions.items()},
    }


def print_header() -> None:
    """The table's first lines."""
    columns = ['logits', 'objects', 'size', 'floor, ms']
    columns += [f'{OURS}, ms', f'{THEIRS}, ms', 'time ratio']
    columns += [f'{OURS}, MB', f'{THEIRS}, MB', 'memory ratio']
    print('| ' + ' | '.join(columns) + ' |')
    print('|---' * len(columns) + '|')


def print_row(row: dict) -> None:
    """One case; where there is a target, whether it is reached."""
    cells = [row['logits'], row['objects'], f'{row["height"]}x{row["width"]}']
    cells.append(f'{row["floor_ms"]:.2f}')
    for unit, scale, target in (('ms', 1, row['target']), ('bytes', 1e6, MEMORY_TARGET)):
        own, other = row[unit][OURS] / scale, row[unit][THEIRS] / scale
        cells += [f'{own:.1f}', f'{other:.1f}', f'{own / other:.2f}']
        if row['target'] is not None:
            cells[-1] += f' ({"ok" if own <= target * other else "missed"}: {target:g})'
    print('| ' + ' | '.join(map(str, cells)) + ' |', flush=True)


def plot(report: dict, path: Path) -> None:
    """Time and memory over the number of objects and over the number of pixels."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), sharey='row')
    by_objects = [row for row in report['rows'] if row['height'] == 800]
    by_size = [row for row in report['rows'] if row['objects'] == 30]
    for (unit, scale, label), line in zip((('ms', 1, 'ms'), ('bytes', 1e6, 'peak MB')), axes):
        line[0].set_ylabel(label)
        for axis, rows, megapixels in ((line[0], by_objects, False), (line[1], by_size, True)):
            if not rows:
                continue
            for name in (OURS, THEIRS):
                for logits, style in ((FULL, '-'), (STRIDE_4, '--')):
                    points = sorted(
                        (
                            row['height'] * row['width'] / 1e6 if megapixels else row['objects'],
                            row[unit][name] / scale,
                        )
                        for row in rows
                        if row['logits'] == logits
                    )
                    colour = 'C0' if name == OURS else 'C1'
                    axis.plot(*zip(*points), f'o{style}', color=colour, label=f'{name}, {logits}')
            axis.set(xscale='log', yscale='log')
            ticks = [x for x, _ in points]
            axis.set_xticks(ticks, [f'{x:.2g}' if megapixels else str(x) for x in ticks])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    axes[1, 0].set_xlabel('objects, at 800x1333')
    axes[1, 1].set_xlabel('megapixels, with 30 objects')
    axes[0, 0].legend(fontsize='small')
    figure.suptitle(report['machine']['device'])
    figure.tight_layout()
    figure.savefig(path, dpi=120)
