"""How the cost grows with objects, pixels, classes, images, processes.

    python tools/benchmarks/growth.py

Times are of one core, which others' work on the machine changes less than those of the clock; of
several processes, that of the one which takes longest, as by the clock where each has a core. Of
each line, the exponent of the size with which the time grows is fitted over all sizes (a constant
part makes it smaller), and taken between the two largest ones alone. Prints a Markdown table, and
writes it as JSON and as a plot.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import torch
from growth_lines import LINES, measure
from harness import make_report, parse_arguments, write_report
from mmengine.logging import MMLogger
from timing import growth

mpl.use('Agg')


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=5, help='the median counts')
    parser.add_argument('--short', action='store_true', help='the two smallest sizes, one round')
    args = parse_arguments(parser, devices=('cpu',))
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # as the configs' opencv_num_threads
    MMLogger.get_current_instance().setLevel('WARNING')

    rounds, lines = (1 if args.short else args.rounds), []
    print('| grows | what | s of a core, by size | exponent | of the last two |')
    print('|---' * 5 + '|')
    for line in LINES:
        sizes = line.sizes[:2] if args.short else line.sizes
        seconds = [measure(line, size, rounds) for size in sizes]
        lines.append(
            dict(
                panel=line.panel,
                what=line.what,
                sizes=list(sizes),
                seconds=seconds,
                exponent=growth(sizes, seconds),
                last_exponent=growth(sizes[-2:], seconds[-2:]),
            )
        )
        print_line(lines[-1])
    report = make_report('cpu', rounds=rounds, lines=lines)
    path = write_report(report, args.out, 'growth_cpu')
    plot(report, path.with_suffix('.png'))
    print(f'{path} and .png')


def print_line(line: dict) -> None:
    """A row of the table."""
    seconds = ', '.join(f'{size}: {s:.3g}' for size, s in zip(line['sizes'], line['seconds']))
    exponents = f'{line["exponent"]:.2f} | {line["last_exponent"]:.2f}'
    print(f'| {line["panel"]} | {line["what"]} | {seconds} | {exponents} |', flush=True)


def plot(report: dict, path: Path) -> None:
    """A panel for each size that grows, both axes logarithmic."""
    from matplotlib import pyplot as plt

    panels = list(dict.fromkeys(line['panel'] for line in report['lines']))
    colours = {what: f'C{i}' for i, what in enumerate({ln['what']: 0 for ln in report['lines']})}
    figure, axes = plt.subplots(2, 3, figsize=(11, 7))
    for panel, axis in zip(panels, axes.flat):
        lines = [line for line in report['lines'] if line['panel'] == panel]
        for line in lines:
            sizes, seconds = np.array(line['sizes']), line['seconds']
            proportional = seconds[-1] * (sizes / sizes[-1]) ** (1 - 2.0 * (panel == 'processes'))
            axis.plot(sizes, seconds, 'o-', color=colours[line['what']])
            axis.plot(sizes, proportional, '--', color=colours[line['what']], linewidth=1)
        axis.set(xscale='log', yscale='log', xlabel=panel, ylabel='s of a core')
        axis.set_title(', '.join(f'{line["what"]} {line["exponent"]:.2f}' for line in lines))
        axis.grid(alpha=0.3)
        if panel == 'processes':
            axis.set_xticks(sizes, map(str, sizes))
            axis.minorticks_off()
    axes.flat[-1].axis('off')
    handles = [plt.Line2D([], [], color=colour, marker='o') for colour in colours.values()]
    handles.append(plt.Line2D([], [], color='grey', linestyle='--', linewidth=1))
    names = [*colours, 'in proportion (processes: inversely)']
    axes.flat[-1].legend(handles, names, loc='center', title='and the exponent over all sizes')
    figure.suptitle(report['machine']['device'])
    figure.tight_layout()
    figure.savefig(path, dpi=120)
