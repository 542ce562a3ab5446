"""Annotations checked many at once, by columns of NumPy's.

What is sound here needs no look at each one; of all others their readers say what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from operator import itemgetter

import numpy as np

from .coco_file import LARGEST
from .segmentation import is_packed

BLOCK = 2000  # annotations, so that columns are small beside the file
#: What a column raises of values that are not as they must be, or not there.
ODD = (AttributeError, KeyError, OverflowError, TypeError, ValueError)

_INSTANCE = itemgetter('id', 'image_id', 'category_id', 'iscrowd', 'bbox', 'segmentation')
_SEGMENT = itemgetter('id', 'category_id', 'iscrowd', 'area', 'bbox')


def find_sound_instances(
    annotations: Sequence, images: dict, categories: Collection[int], slack: float
) -> np.ndarray:
    """Which of COCO's instance annotations have packed polygons, and a box that fits to them.

    Args:
        annotations: N of them.
        images: By id, checked.
        categories: Ids.
        slack: Pixels by which a box may miss its mask.

    Returns:
        (N,) bool; also of two annotations with the same id.
    """
    sound = np.zeros(len(annotations), dtype=bool)
    try:
        rows = [
            row
            for row, annotation in enumerate(annotations)
            if is_packed(annotation.get('segmentation')) and 'segments_info' not in annotation
        ]
        columns = zip(*(_INSTANCE(annotations[row]) for row in rows))
        ids, image_ids, labels, crowds, boxes, polygons = columns
        _column(ids, int)
        labels, crowds, boxes = _column(labels, int), _column(crowds, int), _boxes(boxes)
        if not set(map(type, image_ids)) <= {int, str}:
            return sound
        found = [images[image_id] for image_id in image_ids]
    except ODD:
        return sound
    size = np.array([(image['width'], image['height']) for image in found])
    points = np.frombuffer(b''.join(chain.from_iterable(polygons))).reshape(-1, 2)
    lengths = [sum(map(len, part)) // 2 for part in polygons]
    starts = np.cumsum(lengths) - lengths
    low, high = (reduce.reduceat(points, starts) for reduce in (np.minimum, np.maximum))
    with np.errstate(invalid='ignore'):  # NaN is not sound: no comparison with it is true
        start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        fits = (
            (boxes[:, 2:] >= 1)
            & (low + size >= 0)
            & (high <= 2 * size)
            & (start <= np.minimum(size, high) + slack)
            & (np.maximum(low, 0) <= end + slack)
        )
        for given, found in ((start, low), (end, high)):
            fits &= np.abs(np.clip(given, 0, size) - np.clip(found, 0, size)) <= slack
    is_known = np.isin(labels, list(categories)) & np.isin(crowds, (0, 1))
    sound[rows] = is_known & fits.all(axis=1) & (np.abs(boxes) < LARGEST).all(axis=1)
    return sound


def are_sound_segments(annotations: Sequence, categories: Collection[int], largest_id: int) -> bool:
    """Whether all segments of COCO's panoptic annotations are complete and right.

    Args:
        annotations: Any number.
        categories: Ids.
        largest_id: Of a segment.
    """
    try:
        parts = [annotation['segments_info'] for annotation in annotations]
        columns = zip(*map(_SEGMENT, chain.from_iterable(parts)))
        ids, labels, crowds, areas, boxes = columns
        ids, labels, crowds = (_column(values, int) for values in (ids, labels, crowds))
        areas, boxes = _column(areas, int, float), _boxes(boxes)
    except ODD:
        return False
    image = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return bool(
        ((ids > 0) & (ids <= largest_id)).all()
        and len(np.unique(image * (largest_id + 1) + ids)) == len(ids)
        and np.isin(labels, list(categories)).all()
        and np.isin(crowds, (0, 1)).all()
        and ((areas > 0) & (areas < LARGEST)).all()
        and (np.abs(boxes) < LARGEST).all()
        and (boxes[:, 2:] > 0).all()
    )


def _column(values: Iterable, *kinds: type) -> np.ndarray:
    """(N,) int64 or float64 of JSON's values, which must be of these types."""
    values = list(values)
    if not set(map(type, values)) <= set(kinds):
        raise TypeError
    return np.array(values, dtype=float if float in kinds else np.int64)


def _boxes(boxes: Sequence) -> np.ndarray:
    """(N, 4) float64."""
    if set(map(len, boxes)) != {4}:
        raise ValueError
    return _column(chain.from_iterable(boxes), int, float).reshape(-1, 4)
