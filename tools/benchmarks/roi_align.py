"""RoIAlign on the CPU against mmcv's: ``python tools/benchmarks/roi_align.py``.

Prints a table and writes it as JSON. In each row the two take turns, forward and backward.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import itertools

import torch
from harness import make_report, parse_arguments, write_report
from mmcv.ops import roi_align as mmcv_roi_align
from timing import time_side_by_side

from mmbanet.ops import roi_align

IMAGE = (800, 1216)
OPERATORS = {
    'mmbanet': roi_align,
    'mmcv': lambda feats, rois, size, scale, ratio: mmcv_roi_align(
        feats, rois, (size, size), scale, ratio, 'avg', True
    ),
}


def main() -> None:
    """Measures every case and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seconds', type=float, default=1, help='for a case and a direction')
    args = parse_arguments(parser, devices=('cpu',))

    rows = []
    print(
        '| channels | stride | boxes | crop | samples | forward, ms | mmcv | backward, ms | mmcv |'
    )
    print('| --- ' * 9 + '|')
    for case in cases():
        rows.append({**case, **measure(**case, seconds=args.seconds)})
        print_row(rows[-1])
    print(write_report(make_report('cpu', rows=rows), args.out, 'roi_align_cpu'))


def cases() -> list[dict]:
    """A box branch on every level and on F_S, a mask branch, and fixed numbers of samples."""
    names = ('channels', 'stride', 'boxes', 'crop', 'sampling_ratio')
    values = [
        *itertools.product([256, 512], [4, 8, 16, 32], [1000], [7], [0]),
        (256, 4, 15, 14, 0),
        (512, 4, 15, 14, 0),
        (256, 4, 1000, 7, 1),
        (256, 4, 1000, 7, 2),
    ]
    return [dict(zip(names, case)) for case in values]


def make_rois(count: int) -> torch.Tensor:
    """Boxes (count, 5) in the image: sides of 16 to 512 pixels, log-uniform, aspects 1/2 to 2."""
    generator = torch.Generator().manual_seed(0)
    side, aspect, x, y = torch.rand(4, count, generator=generator)
    side, aspect = 16 * 32**side, 2 ** (aspect - 0.5)
    sizes = torch.stack([side * aspect, side / aspect], dim=1)
    image = torch.tensor(IMAGE[::-1], dtype=torch.float)
    centres = torch.stack([x, y], dim=1) * image
    low, high = (centres - sizes / 2).clamp(min=0), (centres + sizes / 2).minimum(image)
    return torch.cat([torch.zeros(count, 1), low, high], dim=1)


def measure(
    channels: int, stride: int, boxes: int, crop: int, sampling_ratio: int, seconds: float
) -> dict:
    """Milliseconds of both, forward and backward."""
    feats = torch.randn(1, channels, IMAGE[0] // stride, IMAGE[1] // stride)
    rois = make_rois(boxes)
    grad = torch.randn(boxes, channels, crop, crop)
    settings = crop, 1 / stride, sampling_ratio
    results = [run(feats, rois, *settings) for run in OPERATORS.values()]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)

    with torch.no_grad():
        forward = {
            name: (lambda run=run: run(feats, rois, *settings)) for name, run in OPERATORS.items()
        }
        forward_ms = time_side_by_side(forward, 'cpu', seconds)
    feats.requires_grad_()
    backward = {}
    for name, run in OPERATORS.items():
        crops = run(feats, rois, *settings)
        backward[name] = lambda crops=crops: torch.autograd.grad(
            crops, feats, grad, retain_graph=True
        )
    return {'forward_ms': forward_ms, 'backward_ms': time_side_by_side(backward, 'cpu', seconds)}


def print_row(row: dict) -> None:
    """One case, with how many times slower mmcv's is."""
    figures = [str(row[name]) for name in ('channels', 'stride', 'boxes', 'crop')]
    figures.append(str(row['sampling_ratio'] or 'adaptive'))
    for direction in ('forward_ms', 'backward_ms'):
        times = row[direction]
        figures.append(f'{times["mmbanet"]:.1f}')
        figures.append(f'{times["mmcv"]:.1f} (x{times["mmcv"] / times["mmbanet"]:.1f})')
    print(f'| {" | ".join(figures)} |', flush=True)
