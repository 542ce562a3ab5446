"""Panoptic quality (Kirillov et al., CVPR 2019), exactly as panopticapi counts it.

Shapes: G true segments, P predicted segments, C classes.
"""

from __future__ import annotations

import math

import numpy as np

from mmbanet.structures.matching import Segments, TrueSegments, match_segments


def count_matches(
    truth: TrueSegments,
    prediction: Segments,
    overlaps: np.ndarray,
    iou: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """What panoptic quality sums over images.

    Args:
        truth: G segments.
        prediction: P segments.
        overlaps: (G, P), shared pixels.
        iou: (G, P).
        num_classes: C.

    Returns:
        (C, 4) float64: sum of the matches' IoU, true positives, false positives and
        false negatives.
    """
    rows, columns, is_missed, is_false, _ = match_segments(truth, prediction, overlaps, iou)
    matched = truth.labels[rows]
    counts = np.empty((num_classes, 4))
    counts[:, 0] = np.bincount(matched, iou[rows, columns], num_classes)
    counts[:, 1] = np.bincount(matched, minlength=num_classes)
    counts[:, 2] = np.bincount(prediction.labels[is_false], minlength=num_classes)
    counts[:, 3] = np.bincount(truth.labels[is_missed], minlength=num_classes)
    return counts


def average_quality(
    counts: np.ndarray, chosen: np.ndarray
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """Means of panopticapi over the chosen classes that were annotated or predicted.

    Args:
        counts: (C, 4), see :func:`count_matches`, summed over images.
        chosen: (C,) bool.

    Returns:
        ``pq``, ``sq`` and ``rq`` in 0..1, nan where there is no such class, and ``n``, the
        number of them; ``pq``, ``sq`` and ``rq`` of each chosen class, by its label, 0 for one that
        was neither annotated nor predicted.
    """
    of_class, found = {}, []
    for label in chosen.nonzero()[0].tolist():
        iou, true, false, missed = counts[label].tolist()
        size = true + 0.5 * false + 0.5 * missed
        of_class[label] = dict(pq=0.0, sq=0.0, rq=0.0)
        if size:
            of_class[label] = dict(pq=iou / size, sq=iou / true if true else 0.0, rq=true / size)
            found.append(of_class[label])
    means = {
        key: sum(quality[key] for quality in found) / len(found) if found else math.nan
        for key in ('pq', 'sq', 'rq')
    }
    return dict(means, n=len(found)), of_class
