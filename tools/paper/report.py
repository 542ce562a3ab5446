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

from .tables import OF_ALL_AND_GROUPS, Row, Table

METRIC_PREFIX = 'coco_panoptic/'


class Measured(NamedTuple):
    """A row and what was measured of it.

    Attributes:
        row: The row.
        cells: What stands in front of the figures: the row's, of the model that was measured.
        metrics: By seed.
        counts: (N, C, 4) by seed, what PQ counted in each of the N images; empty if unknown.
        is_thing: (C,) bool, of the classes of ``counts``.
    """

    row: Row
    cells: tuple[str, ...]
    metrics: list[dict[str, float]]
    counts: Sequence[np.ndarray] = ()
    is_thing: np.ndarray | None = None

    def values(self, name: str) -> list[float]:
        """A metric, by seed."""
        return [scores[METRIC_PREFIX + name] for scores in self.metrics]

    def counts_of(self, name: str) -> list[np.ndarray]:
        """``counts`` of the classes that a metric of ``OF_ALL_AND_GROUPS`` is about."""
        chosen = dict(PQ=slice(None), PQ_th=self.is_thing, PQ_st=~self.is_thing)[name]
        return [counts[:, chosen] for counts in self.counts]


class Difference(NamedTuple):
    """Between two rows in a metric, whose seeds are paired.

    Attributes:
        by_seed: New minus old.
        intervals: 95% of it, low and high, by what is drawn anew: Student's of ``seeds``, and
            the bootstrap's of ``seeds and images``; of a single seed that of ``images`` alone.
    """

    by_seed: list[float]
    intervals: dict[str, tuple[float, float]]

    @classmethod
    def between(cls, new: Measured, old: Measured, name: str) -> Difference:
        """Of two rows."""
        by_seed = [a - b for a, b in zip(new.values(name), old.values(name))]
        several = len(by_seed) > 1
        intervals = {}
        if several:
            error = t.ppf(0.975, len(by_seed) - 1) * stdev(by_seed) / math.sqrt(len(by_seed))
            intervals['seeds'] = mean(by_seed) - error, mean(by_seed) + error
        if new.counts and old.counts:
            drawn = 'seeds and images' if several else 'images'
            intervals[drawn] = bootstrap(new.counts_of(name), old.counts_of(name))
        return cls(by_seed, intervals)

    def __str__(self) -> str:
        """Its mean, what it may be, and whether it is more than noise: beyond all intervals."""
        said = ', '.join(
            f'{low:+.1f} to {high:+.1f} by {of}' for of, (low, high) in self.intervals.items()
        )
        said = f'95%: {said}: ' if said else ''
        if len(self.by_seed) < 2:
            verdict = 'one seed, the noise of seeds is unknown'
        elif all(low > 0 or high < 0 for low, high in self.intervals.values()):
            verdict = 'beyond the noise'
        else:
            verdict = 'within the noise'
        return f'{mean(self.by_seed):+.1f} ({said}{verdict})'

    def in_short(self) -> str:
        """Its mean and the interval of the bootstrap, if there is one."""
        drawn = [bounds for of, bounds in self.intervals.items() if of.endswith('images')]
        said = ''.join(f' ({low:+.1f} to {high:+.1f})' for low, high in drawn)
        return f'{mean(self.by_seed):+.1f}{said}'


class Gain(NamedTuple):
    """What a row has above another.

    Attributes:
        old, new: Names of the rows.
        differences: In PQ of all, of things and of stuff.
    """

    old: str
    new: str
    differences: dict[str, Difference]

    def __str__(self) -> str:
        """A line."""
        _, things, stuff = self.differences.values()
        groups = f'things {things.in_short()}, stuff {stuff.in_short()}'
        return f'{self.old} -> {self.new}: PQ {self.differences["PQ"]}; {groups}'

    def as_json(self) -> dict:
        """The same, to two decimals."""
        return dict(old=self.old, new=self.new) | {
            name: dict(
                by_seed=[round(value, 2) for value in difference.by_seed],
                **{
                    f'95% by {of}': [round(float(bound), 2) for bound in bounds]
                    for of, bounds in difference.intervals.items()
                },
            )
            for name, difference in self.differences.items()
        }


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    if any(math.isnan(value) for value in values):
        return '-'
    return f'{mean(values):.1f}' + (f' ±{stdev(values):.1f}' if len(values) > 1 else '')


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


def gains(table: Table, measured: list[Measured]) -> list[Gain]:
    """Each measured row against one of them, or the one above where rows add up."""
    first = baseline(table, measured)
    if table.rows_add_up:
        pairs = [*pairwise(measured)]
        if len(pairs) > 1:
            pairs.append((first, measured[-1]))
    else:
        pairs = [(first, item) for item in measured if item is not first]
    return [
        Gain(
            _name(table, old.cells),
            _name(table, new.cells),
            {name: Difference.between(new, old, name) for name in OF_ALL_AND_GROUPS},
        )
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
    papers = [item.row.paper[0] - first.row.paper[0] for item in measured]
    for place, (item, paper) in enumerate(zip(measured, papers)):
        gain = [a - b for a, b in zip(item.values('PQ'), first.values('PQ'))]
        axis.plot(gain, [place] * len(gain), 'o', color='C0', alpha=0.5)
        axis.plot(mean(gain), place, '|', color='C0', markersize=18, markeredgewidth=2)
        axis.plot(paper, place, 'D', color='C1')
    axis.plot([], [], 'o', color='C0', label=f'{data}: seeds and mean')
    if not all(map(math.isnan, papers)):
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
