"""A table in the paper's layout, with measured figures and the paper's, as text, Markdown, plot."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from matplotlib.figure import Figure
from scipy.stats import t

from .tables import Row, Table

METRIC_PREFIX = 'coco_panoptic/'


class Measured(NamedTuple):
    """A row and what was measured of it: one dict of metrics for each seed, in the same order.

    ``cells`` stand in front of the figures: the row's, of the model that was measured.
    """

    row: Row
    cells: tuple[str, ...]
    metrics: list[dict[str, float]]

    def values(self, name: str) -> list[float]:
        """A metric, by seed."""
        return [scores[METRIC_PREFIX + name] for scores in self.metrics]


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    if any(math.isnan(value) for value in values):
        return '-'
    return f'{mean(values):.1f}' + (f' ±{stdev(values):.1f}' if len(values) > 1 else '')


def difference(new: list[float], old: list[float]) -> str:
    """Mean of the differences seed by seed, and whether they are more than noise."""
    differences = [a - b for a, b in zip(new, old)]
    text = f'{mean(differences):+.1f}'
    if len(differences) < 2:
        return f'{text} (one seed: noise unknown)'
    # Student's t: a difference beyond it is one in twenty by chance alone.
    error = t.ppf(0.975, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    verdict = 'within the noise' if abs(mean(differences)) <= error else 'beyond the noise'
    return f'{text} ±{error:.1f} ({verdict})'


def lines(table: Table, measured: list[Measured], data: str) -> list[list[str]]:
    """The table's head and, for each row, a line measured and a line of the paper."""
    metrics_of = {id(item.row): item for item in measured}
    result = [[*table.columns, 'data', *table.metrics]]
    for row in table.rows:
        if id(row) in metrics_of:
            item = metrics_of[id(row)]
            figures = [spread(item.values(name)) for name in table.metrics]
            result.append([*item.cells, data, *figures])
        figures = ['-' if math.isnan(value) else f'{value:.1f}' for value in row.paper]
        result.append([*row.cells, f'{table.subset} (paper)', *figures])
    return result


def gains(table: Table, measured: list[Measured]) -> list[str]:
    """PQ of each measured row against the first, or the one above where rows add up."""
    first, *others = measured
    if table.rows_add_up:
        pairs = [*pairwise(measured), (first, measured[-1])]
    else:
        pairs = [(first, item) for item in others]
    return [
        f'{_name(table, old.cells)} -> {_name(table, new.cells)}: '
        f'PQ {difference(new.values("PQ"), old.values("PQ"))}'
        for old, new in pairs
    ]


def text_table(rows: list[list[str]]) -> str:
    """Columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown(rows: list[list[str]]) -> str:
    """The same as a Markdown table."""
    head, *body = ('| ' + ' | '.join(row) + ' |' for row in rows)
    return '\n'.join([head, '|' + '---|' * len(rows[0]), *body])


def plot(table: Table, measured: list[Measured], data: str, path: Path) -> None:
    """PQ of every measured row by seed, and the paper's, each as gain over the first row."""
    figure = Figure(figsize=(7, 0.5 * len(measured) + 1.5), layout='constrained')
    axis = figure.subplots()
    names = [_name(table, item.cells) for item in measured]
    for place, item in enumerate(measured):
        gain = [a - b for a, b in zip(item.values('PQ'), measured[0].values('PQ'))]
        paper = item.row.paper[0] - measured[0].row.paper[0]
        axis.plot(gain, [place] * len(gain), 'o', color='C0', alpha=0.5)
        axis.plot(mean(gain), place, '|', color='C0', markersize=18, markeredgewidth=2)
        axis.plot(paper, place, 'D', color='C1')
    axis.plot([], [], 'o', color='C0', label=f'{data}: seeds and mean')
    axis.plot([], [], 'D', color='C1', label='COCO (paper)')
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(f'PQ above "{names[0]}"')
    axis.grid(axis='x', alpha=0.3)
    axis.legend(fontsize='small')
    figure.savefig(path, dpi=110)


def _name(table: Table, cells: tuple[str, ...]) -> str:
    """The cells as one line, with a cross replaced by the head of its column."""
    parts = [column if cell == 'x' else cell for column, cell in zip(table.columns, cells) if cell]
    return ' '.join(parts) or table.without
