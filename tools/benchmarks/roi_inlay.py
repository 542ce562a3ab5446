"""RoIInlay against its rivals: ``python tools/benchmarks/roi_inlay.py [--device cuda]``.

Prints a table and writes it as JSON and as a plot. All figures of a row come from one run, in which
the operators take turns. The floor is the time in which the bytes that must move (crops read, map
written; for the backward pass the reverse) move at the machine's measured copy bandwidth. Without
mmcv's operators, its RoIAlign is left out.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
from harness import make_report, parse_arguments, write_report
from roi_rivals import CASES, Crops, inlay_by_grid_sample, operators, roi_align_backward
from timing import copy_bandwidth, time_side_by_side

from mmbanet.ops import roi_inlay

mpl.use('Agg')


def main() -> None:
    """Measures every case and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--seconds', type=float, default=4, help='for a case and a direction')
    args = parse_arguments(parser)

    bandwidth = copy_bandwidth(args.device)
    rows = []
    for case in CASES:
        check(case, args.device)
        rows.append(measure(case, args.device, args.seconds, bandwidth))
        print_row(rows[-1])
    report = make_report(args.device, copy_bandwidth_gb_per_s=bandwidth / 1e9, rows=rows)
    path = write_report(report, args.out, f'roi_inlay_{args.device}')
    plot(report, path.with_suffix('.png'))
    print(f'{path} and .png; copy bandwidth {bandwidth / 1e9:.1f} GB/s')


def check(case: Crops, device: str) -> None:
    """The plain PyTorch rival computes the same, or the comparison would mean nothing."""
    small = Crops('', 20, case.crop, 64, 80, 3, 8, 60)
    crops, rois = small.inputs(device)
    expected = inlay_by_grid_sample(crops, rois, 64, 80)
    torch.testing.assert_close(roi_inlay(crops, rois, 1, (64, 80)), expected, rtol=1e-3, atol=1e-4)


def measure(case: Crops, device: str, seconds: float, bandwidth: float) -> dict:
    """Milliseconds of every operator, forward and backward."""
    crops, rois = case.inputs(device)
    grad = torch.randn(1, case.channels, case.height, case.width, device=device)
    forward = {name: (lambda run=run: run(crops, rois)) for name, run in operators(case).items()}
    with torch.no_grad():
        times = time_side_by_side(forward, device, seconds)
    run = roi_align_backward(case, rois, crops)
    if run is not None:
        times |= time_side_by_side({'roi_align backward': run}, device, seconds / 4)

    leaf = crops.clone().requires_grad_()
    backward = {}
    for name, run in operators(case).items():
        output = run(leaf, rois)
        backward[name] = lambda output=output: torch.autograd.grad(
            output, leaf, grad, retain_graph=True
        )
    return {
        'case': case.name,
        'forward_ms': times,
        'backward_ms': time_side_by_side(backward, device, seconds),
        'floor_ms': (crops.nbytes + grad.nbytes) / bandwidth * 1e3,
    }


def print_row(row: dict) -> None:
    """One case: milliseconds, and for the rivals how many times slower they are."""
    digits = 1 if row['floor_ms'] > 1 else 3
    print(f'{row["case"]}  (floor {row["floor_ms"]:.{digits}f} ms)')
    for direction in ('forward', 'backward'):
        times = row[f'{direction}_ms']
        own = times['roi_inlay']
        figures = (f'{name} {ms:.{digits}f} (x{ms / own:.2f})' for name, ms in times.items())
        print(f'  {direction:<9}' + '  '.join(figures), flush=True)


def plot(report: dict, path: Path) -> None:
    """Bars of the forward times, a group for each case, on a logarithmic axis."""
    from matplotlib import pyplot as plt

    rows = report['rows']
    names = list(rows[0]['forward_ms'])
    figure, axes = plt.subplots(figsize=(11, 4.5))
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        places = [j + (i - (len(names) - 1) / 2) * width for j in range(len(rows))]
        axes.bar(places, [row['forward_ms'][name] for row in rows], width, label=name)
    for j, row in enumerate(rows):
        axes.hlines(row['floor_ms'], j - 0.42, j + 0.42, colors='black', linestyles='dashed')
    axes.set_yscale('log')
    axes.set_xticks(range(len(rows)), [row['case'] for row in rows])
    axes.set_xlabel('objects, crop, map (512 channels), and the model itself; dashed: floor')
    axes.set_ylabel('forward, ms')
    axes.set_title(report['machine']['device'])
    axes.legend(fontsize='small')
    figure.tight_layout()
    figure.savefig(path, dpi=120)
