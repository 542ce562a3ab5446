"""A table in the paper's layout, with measured figures and the paper's, as text, Markdown, plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t

from .tables import Row, Table

METRIC_PREFIX = 'coco_panoptic/'


class Measured(NamedTuple):
    """A row and what was measured of it.

    Attributes:
        row: The row.
        cells: What stands in front of the figures: the row's, of the model that was measured.
        metrics: By seed.
        counts: (N, C, 4) by seed, what PQ counted in each of the N images; empty if unknown.
    """

    row: Row
    cells: tuple[str, ...]
    metrics: list[dict[str, float]]
    counts: Sequence[np.ndarray] = ()

    def values(self, name: str) -> list[float]:
        """A metric, by seed."""
        return [scores[METRIC_PREFIX + name] for scores in self.metrics]


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    if any(math.isnan(value) for value in values):
        return '-'
    return f'{mean(values):.1f}' + (f' ±{stdev(values):.1f}' if len(values) > 1 else '')


def difference(new: Measured, old: Measured) -> str:
    """Mean of the differences in PQ seed by seed, and whether they are more than noise.

    Seeds alone give Student's interval; that of the bootstrap is over seeds and images at once. A
    difference is beyond the noise if it is beyond both.
    """
    differences = [a - b for a, b in zip(new.values('PQ'), old.values('PQ'))]
    text = f'{mean(differences):+.1f}'
    intervals = {}
    if len(differences) > 1:
        error = t.ppf(0.975, len(differences) - 1) * stdev(differences)
        error /= math.sqrt(len(differences))
        intervals['seeds'] = mean(differences) - error, mean(differences) + error
    if new.counts and old.counts:
        intervals['seeds and images'] = bootstrap(new.counts, old.counts)
    if len(differences) < 2:
        return f'{text} (one seed: noise unknown)'
    said = ', '.join(f'{low:+.1f} to {high:+.1f} by {of}' for of, (low, high) in intervals.items())
    beyond = all(low > 0 or high < 0 for low, high in intervals.values())
    return f'{text} (95%: {said}: {"beyond" if beyond else "within"} the noise)'


def bootstrap(
    new: Sequence[np.ndarray], old: Sequence[np.ndarray], rounds: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95% interval of the difference in PQ, drawing seeds and images anew, the same for both rows.

    Args:
        new: (N, C, 4) by seed, see :attr:`Measured.counts`.
        old: Of the row that it is compared with, with the same seeds and images.
        rounds: How often it is drawn.
        seed: Of the draws.
    """
    generator = np.random.default_rng(seed)
    images = len(new[0])
    times = generator.multinomial(images, np.full(images, 1 / images), size=rounds)
    differences = np.stack(
        [_quality(times, counts) - _quality(times, other) for counts, other in zip(new, old)]
    )
    drawn = generator.integers(len(new), size=(len(new), rounds))
    return tuple(np.percentile(differences[drawn, np.arange(rounds)].mean(axis=0), [2.5, 97.5]))


def _quality(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(rounds,): PQ in percent where each of N images counts (rounds, N) times."""
    sums = (times @ counts.reshape(len(counts), -1)).reshape(len(times), *counts.shape[1:])
    iou, matched, false, missed = np.moveaxis(sums, -1, 0)
    segments = matched + 0.5 * (false + missed)
    # Classes that are neither annotated nor predicted do not count.
    return 100 * np.nanmean(iou / np.where(segments > 0, segments, np.nan), axis=1)


def lines(table: Table, measured: list[Measured], data: str) -> list[list[str]]:
    """The table's head and, for each row, a line measured and a line of the paper."""
    metrics_of = {id(item.row): item for item in measured}
    result = [[*table.columns, 'data', *table.metrics]]
    for row in table.rows:
        if id(row) in metrics_of:
            item = metrics_of[id(row)]
            figures = [spread(item.values(name)) for name in table.metrics]
            result.append([*item.cells, data, *figures])
        if not all(map(math.isnan, row.paper)):
            figures = ['-' if math.isnan(value) else f'{value:.1f}' for value in row.paper]
            result.append([*row.cells, f'{table.subset} (paper)', *figures])
    return result


def gains(table: Table, measured: list[Measured]) -> list[str]:
    """PQ of each measured row against one of them, or the one above where rows add up."""
    first = baseline(table, measured)
    if table.rows_add_up:
        pairs = [*pairwise(measured), (first, measured[-1])]
    else:
        pairs = [(first, item) for item in measured if item is not first]
    return [
        f'{_name(table, old.cells)} -> {_name(table, new.cells)}: PQ {difference(new, old)}'
        for old, new in pairs
    ]


def baseline(table: Table, measured: list[Measured]) -> Measured:
    """The row that others are compared with, or the first if that was not measured."""
    compared_with = table.rows[table.compared_with]
    return next((item for item in measured if item.row is compared_with), measured[0])


def text_table(rows: list[list[str]]) -> str:
    """Columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def markdown(rows: list[list[str]]) -> str:
    """The same as a Markdown table."""
    head, *body = ('| ' + ' | '.join(row) + ' |' for row in rows)
    return '\n'.join([head, '|' + '---|' * len(rows[0]), *body])


def plot(table: Table, measured: list[Measured], data: str, path: Path) -> None:
    """PQ of every measured row by seed, and the paper's, each as gain over that of one row."""
    figure = Figure(figsize=(7, 0.5 * len(measured) + 1.5), layout='constrained')
    axis = figure.subplots()
    first = baseline(table, measured)
    names = [_name(table, item.cells) for item in measured]
    for place, item in enumerate(measured):
        gain = [a - b for a, b in zip(item.values('PQ'), first.values('PQ'))]
        paper = item.row.paper[0] - first.row.paper[0]
        axis.plot(gain, [place] * len(gain), 'o', color='C0', alpha=0.5)
        axis.plot(mean(gain), place, '|', color='C0', markersize=18, markeredgewidth=2)
        axis.plot(paper, place, 'D', color='C1')
    axis.plot([], [], 'o', color='C0', label=f'{data}: seeds and mean')
    axis.plot([], [], 'D', color='C1', label='COCO (paper)')
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel(f'PQ above "{_name(table, first.cells)}"')
    axis.grid(axis='x', alpha=0.3)
    figure.legend(loc='outside upper right', ncols=2, fontsize='small')
    figure.savefig(path, dpi=110)


def _name(table: Table, cells: tuple[str, ...]) -> str:
    """The cells as one line, with a cross replaced by the head of its column."""
    parts = [column if cell == 'x' else cell for column, cell in zip(table.columns, cells) if cell]
    return ' '.join(parts) or table.without
