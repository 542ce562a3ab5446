"""Segments of two maps of an image, and which of them panoptic quality matches.

Shapes: G true segments, P predicted segments, R runs, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# The label of what is no segment: void, and pixels that the annotation says nothing of.
NO_LABEL = -1
# The true segment that stands for void; COCO's id of it is 0, too.
VOID = 0
# The id of the true segment that stands for all ids that the annotation does not list.
UNLISTED = 2**24


class Segments(NamedTuple):
    """The segments of a predicted map.

    Attributes:
        ids: (P,) integers, ascending.
        labels: (P,) int64, their classes; ``NO_LABEL`` for void.
    """

    ids: np.ndarray
    labels: np.ndarray


class TrueSegments(NamedTuple):
    """The annotated segments of an image, the first one void, the last one what is not listed.

    Attributes:
        ids: (G,) int64, ascending, COCO's ids, from 0 to ``UNLISTED``.
        labels: (G,) int64, their classes; ``NO_LABEL`` for void and unlisted.
        areas: (G,) float64, their pixels as the annotation states them, nan where it
            does not.
        is_countable: (G,) bool; not void, not unlisted, and no crowd region.
        crowds: From classes to the crowd region of the class, the last one that is
            listed.
    """

    ids: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    is_countable: np.ndarray
    crowds: dict[int, int]


class Runs(NamedTuple):
    """Stretches of pixels in which two maps do not change; there are far fewer than pixels.

    Attributes:
        true_ids: (R,), the true map's values.
        ids: (R,), the predicted map's values.
        lengths: (R,), pixels.
    """

    true_ids: np.ndarray
    ids: np.ndarray
    lengths: np.ndarray


def find_runs(true_map: np.ndarray, id_map: np.ndarray, where: np.ndarray | None = None) -> Runs:
    """Runs of two maps (H, W), of all pixels or of those in a mask (H, W), row by row."""
    true_ids, ids = (m.ravel() if where is None else m[where] for m in (true_map, id_map))
    is_edge = np.ones(len(ids) + 1, dtype=bool)  # before the first pixel and after the last one
    np.not_equal(ids[1:], ids[:-1], out=is_edge[1:-1])
    is_edge[1:-1] |= true_ids[1:] != true_ids[:-1]
    edges = is_edge.nonzero()[0]
    starts = edges[:-1]
    return Runs(true_ids[starts], ids[starts], edges[1:] - starts)


def count_overlaps(truth: TrueSegments, prediction: Segments, runs: Runs) -> np.ndarray:
    """(G, P) float64: the pixels that two segments share."""
    rows = truth.ids.searchsorted(runs.true_ids)
    rows[truth.ids[rows] != runs.true_ids] = len(truth.ids) - 1
    shape = len(truth.ids), len(prediction.ids)
    pairs = rows * shape[1] + prediction.ids.searchsorted(runs.ids)
    return np.bincount(pairs, runs.lengths, minlength=shape[0] * shape[1]).reshape(shape)


def count_pixels(truth: TrueSegments, true_map: np.ndarray) -> np.ndarray:
    """(G,) float64: the pixels of each true segment in their map (H, W)."""
    whole = Segments(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    return count_overlaps(truth, whole, find_runs(true_map, np.zeros_like(true_map)))[:, 0]


def segment_iou(
    overlaps: np.ndarray, true_areas: np.ndarray, predicted_overlaps: np.ndarray
) -> np.ndarray:
    """IoU of every two segments, without the predicted pixels that are void in truth.

    Args:
        overlaps: (G, P), shared pixels.
        true_areas: (G,), pixels of the true segments.
        predicted_overlaps: (G, P), pixels of the predicted segments in each true one.

    Returns:
        (G, P) float64.
    """
    areas = predicted_overlaps.sum(axis=0) - predicted_overlaps[VOID]
    union = true_areas[:, None] + areas - overlaps
    return np.divide(overlaps, union, out=np.zeros(overlaps.shape), where=union > 0)


class Matches(NamedTuple):
    """Which segments of an image panoptic quality matches.

    Attributes:
        rows: (M,), the true segments of the matches.
        columns: (M,), their predicted segments.
        is_missed: (G,) bool, true segments that count as false negatives.
        is_false: (P,) bool, predicted segments that count as false positives.
        is_confused: (G, P) bool, a missed and a false segment that would match if their classes
            were the same.
    """

    rows: np.ndarray
    columns: np.ndarray
    is_missed: np.ndarray
    is_false: np.ndarray
    is_confused: np.ndarray


def match_segments(
    truth: TrueSegments, prediction: Segments, overlaps: np.ndarray, iou: np.ndarray
) -> Matches:
    """Matches the segments of an image: those of a class match at an IoU above 0.5.

    Crowd regions match nothing and are not missed. A predicted segment is not held to be false if
    more than half of it lies in void and in the crowd region of its class; of several, panopticapi
    looks at the last one.

    Args:
        truth: G segments.
        prediction: P segments.
        overlaps: (G, P), shared pixels.
        iou: (G, P).
    """
    is_match = (iou > 0.5) & (truth.labels[:, None] == prediction.labels)
    rows, columns = (is_match & truth.is_countable[:, None]).nonzero()
    is_missed = truth.is_countable.copy()
    is_missed[rows] = False

    ignored = overlaps[VOID].copy()
    for label, crowd in truth.crowds.items():
        of_class = prediction.labels == label
        ignored[of_class] += overlaps[crowd, of_class]
    is_false = (prediction.labels != NO_LABEL) & (2 * ignored <= overlaps.sum(axis=0))
    is_false[columns] = False
    is_confused = (iou > 0.5) & np.outer(is_missed, is_false)
    return Matches(rows, columns, is_missed, is_false, is_confused)
