"""What is behind a panoptic quality: which segments, of which size, confused with what, how sure.

Shapes: C classes, G true segments, P predicted segments, N segments of all images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mmbanet.structures.matching import NO_LABEL, Matches

from .panoptic_quality import average_quality
from .panoptic_truth import Comparison

# COCO's bounds of areas, in pixels.
SIZES = (('small', 0, 32**2), ('medium', 32**2, 96**2), ('large', 96**2, math.inf))
# Shares, each with its upper bound.
SHARES = (('none', 0.0), ('up to 25%', 0.25), ('up to 50%', 0.5), ('more', 1.0))
BINS = 10
AVERAGES = ('All', 'Things', 'Stuff')


class PanopticBreakdown:
    """Gathers the segments of image after image, and says in the end what they have in common.

    Args:
        classes: Names of the C classes in the order of labels.
        is_thing: (C,) bool.
    """

    def __init__(self, classes: Sequence[str], is_thing: Sequence[bool]) -> None:
        self.classes = list(classes)
        self.is_thing = np.array(is_thing, dtype=bool)
        self.counts = np.zeros((len(self.classes), 4))
        self._true: list[tuple] = []
        self._found: list[tuple] = []

    def add(
        self,
        comparison: Comparison,
        matches: Matches,
        counts: np.ndarray,
        true_overlap: np.ndarray,
        found_overlap: np.ndarray,
        scores: np.ndarray,
        hidden: np.ndarray,
    ) -> None:
        """Adds an image.

        Args:
            comparison: Its segments.
            matches: Which of them match.
            counts: (C, 4) of :func:`~mmbanet.evaluation.panoptic_quality.count_matches`.
            true_overlap: (G,), see :func:`box_overlap`.
            found_overlap: (P,).
            scores: (P,), nan where there is none.
            hidden: (G,), the share of each true segment that is hidden, nan where that is unknown.
        """
        self.counts += counts
        truth, found, overlaps, iou = comparison
        no_match, void = len(self.classes), len(self.classes) + 1
        areas = overlaps.sum(axis=0)

        # What a true segment was found as, and what a predicted one is.
        lies_in_void = 2 * overlaps[:, found.labels == NO_LABEL].sum(axis=1) > overlaps.sum(axis=1)
        answers = np.where(lies_in_void, void, no_match)
        origins = np.where(matches.is_false, no_match, void)
        quality = np.full(len(answers), np.nan)
        answers[matches.rows] = truth.labels[matches.rows]
        origins[matches.columns] = found.labels[matches.columns]
        quality[matches.rows] = iou[matches.rows, matches.columns]
        for row, column in np.argwhere(matches.is_confused):
            answers[row], origins[column] = found.labels[column], truth.labels[row]

        for row in truth.is_countable.nonzero()[0]:
            self._true.append(
                (
                    *(truth.labels[row], answers[row], quality[row], truth.areas[row]),
                    *(true_overlap[row], hidden[row]),
                )
            )
        for column in (found.labels != NO_LABEL).nonzero()[0]:
            self._found.append(
                (
                    *(found.labels[column], origins[column], matches.is_false[column]),
                    *(areas[column], found_overlap[column], scores[column]),
                )
            )

    def numbers(self) -> dict:
        """All of it, ready for JSON; qualities in percent, None where there is nothing.

        * ``quality``: ``PQ``, ``SQ``, ``RQ`` and ``classes`` (how many count) of ``All``,
          ``Things`` and ``Stuff``.
        * ``classes``: ``name``, ``is_thing``, ``PQ``, ``SQ``, ``RQ``, ``TP``, ``FP`` and ``FN``.
        * ``size``, ``overlap``: The same over the segments of a kind, with ``name``. A match and a
          miss count where the true segment belongs, a false segment where it belongs itself.
        * ``hidden``: ``name``, ``segments``, ``found`` (share) and ``SQ`` by the share that is
          hidden; empty where that is unknown.
        * ``confusion``: ``names``, of the classes and of no match and void; ``segments``: true by
          predicted.
        * ``calibration``: ``ECE`` and ``bins`` (:func:`reliability`) of the things with scores.
        """
        true = np.array(self._true, dtype=np.float64).reshape(-1, 6)
        found = np.array(self._found, dtype=np.float64).reshape(-1, 6)
        groups = dict(zip(AVERAGES, (self.is_thing | True, self.is_thing, ~self.is_thing)))
        _, of_classes = average_quality(self.counts, groups['All'])
        names = [*self.classes, 'no match', 'void']
        return dict(
            quality={name: _average(self.counts, chosen) for name, chosen in groups.items()},
            classes=[
                dict(
                    name=name,
                    is_thing=bool(self.is_thing[label]),
                    **{key.upper(): 100.0 * value for key, value in of_classes[label].items()},
                    **dict(zip(('TP', 'FP', 'FN'), map(int, self.counts[label, 1:]))),
                )
                for label, name in enumerate(self.classes)
            ],
            size=[
                dict(name=name, **self._quality(true, found, low, high, 3))
                for name, low, high in SIZES
            ],
            overlap=[
                dict(name=name, **self._quality(true, found, low, high, 4))
                for name, low, high in _share_bounds()
            ],
            hidden=_found_by_hidden(true),
            confusion=dict(names=names, segments=self._confusion(true, found).tolist()),
            calibration=self._calibration(found),
        )

    def _quality(
        self, true: np.ndarray, found: np.ndarray, low: float, high: float, column: int
    ) -> dict:
        """Of the segments whose value in a column is in [low, high)."""
        true, found = (
            part[(low <= part[:, column]) & (part[:, column] < high)] for part in (true, found)
        )
        is_match = ~np.isnan(true[:, 2])
        false = found[found[:, 2] == 1]
        num_classes = len(self.classes)
        counts = np.zeros((num_classes, 4))
        labels = true[:, 0].astype(np.int64)
        counts[:, 0] = np.bincount(labels[is_match], true[is_match, 2], num_classes)
        counts[:, 1] = np.bincount(labels[is_match], minlength=num_classes)
        counts[:, 2] = np.bincount(false[:, 0].astype(np.int64), minlength=num_classes)
        counts[:, 3] = np.bincount(labels[~is_match], minlength=num_classes)
        sums = dict(zip(('TP', 'FP', 'FN'), map(int, counts[:, 1:].sum(axis=0))))
        return dict(_average(counts, self.is_thing | True), **sums)

    def _confusion(self, true: np.ndarray, found: np.ndarray) -> np.ndarray:
        size = len(self.classes) + 2
        table = np.zeros((size, size), dtype=np.int64)
        np.add.at(table, tuple(true[:, :2].T.astype(np.int64)), 1)
        # What has a true segment, right or of another class, is in the table already.
        rest = found[found[:, 1] >= len(self.classes), :2].astype(np.int64)
        np.add.at(table, (rest[:, 1], rest[:, 0]), 1)
        return table

    def _calibration(self, found: np.ndarray) -> dict:
        void = len(self.classes) + 1
        judged = found[~np.isnan(found[:, 5]) & (found[:, 1] != void)]
        return reliability(judged[:, 5], judged[:, 2] == 0)


def reliability(scores: np.ndarray, is_right: np.ndarray, bins: int = BINS) -> dict:
    """How well scores tell the share that is right (Guo et al., ICML 2017).

    Args:
        scores: (N,) in 0..1.
        is_right: (N,) bool.
        bins: Of equal width.

    Returns:
        ``ECE``, the expected calibration error in percent, and ``bins``, of which each has
        ``low``, ``high``, ``count``, and, where it is not empty, the mean ``score`` and the share
        that is ``right``, both in percent.
    """
    place = np.minimum((scores * bins).astype(np.int64), bins - 1)
    facts, error = [], 0.0
    for k in range(bins):
        chosen = place == k
        count = int(chosen.sum())
        fact = dict(low=k / bins, high=(k + 1) / bins, count=count, score=None, right=None)
        if count:
            fact.update(score=100 * scores[chosen].mean(), right=100 * is_right[chosen].mean())
            error += count / len(scores) * abs(fact['score'] - fact['right'])
        facts.append(fact)
    return dict(ECE=error if len(scores) else None, segments=len(scores), bins=facts)


def box_overlap(boxes: np.ndarray) -> np.ndarray:
    """How much of each thing's box the box of one other thing covers, at most: (N,) in 0..1.

    Args:
        boxes: (N, 4), x, y, width and height.
    """
    left_top, right_bottom = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(right_bottom[:, None], right_bottom) - np.maximum(
        left_top[:, None], left_top
    )
    shared = np.maximum(sides, 0).prod(axis=2)
    np.fill_diagonal(shared, 0)
    return shared.max(axis=1, initial=0) / np.maximum(boxes[:, 2:].prod(axis=1), 1)


def _share_bounds() -> list[tuple[str, float, float]]:
    """Half-open bounds of ``SHARES``, of which the upper ones are to belong to the share."""
    limits = [-math.inf, *(np.nextafter(high, 2) for _, high in SHARES)]
    return [(name, *bounds) for (name, _), bounds in zip(SHARES, pairwise(limits))]


def _average(counts: np.ndarray, chosen: np.ndarray) -> dict:
    average, _ = average_quality(counts, chosen)
    values = {key.upper(): _percent(average[key]) for key in ('pq', 'sq', 'rq')}
    return dict(values, classes=average['n'])


def _found_by_hidden(true: np.ndarray) -> list[dict]:
    facts = []
    for name, low, high in _share_bounds():
        chosen = true[(low <= true[:, 5]) & (true[:, 5] < high)]
        quality = chosen[~np.isnan(chosen[:, 2]), 2]
        share = len(quality) / len(chosen) if len(chosen) else math.nan
        mean = quality.mean() if len(quality) else math.nan
        facts.append(
            dict(name=name, segments=len(chosen), found=_percent(share), SQ=_percent(mean))
        )
    return facts if np.isfinite(true[:, 5]).any() else []


def _percent(value: float) -> float | None:
    return None if math.isnan(value) else 100 * float(value)
