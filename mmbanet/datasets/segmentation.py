"""The ``segmentation`` of COCO's instance annotations: polygons, or a run-length encoding (RLE)."""

from __future__ import annotations

import math
from array import array
from typing import Any

from pycocotools import mask as coco_mask

from .rle import check_rle

_MIN_NUMBERS = 6  # x, y of three points; what has fewer encloses nothing
_NUMBERS = {int, float}  # a bool is an int for Python, but no coordinate

Extent = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels


def pack_polygons(entry: dict) -> dict:
    """An object of a JSON file, with arrays of float64 for the polygons of a ``segmentation``.

    They take a fourth of the memory. A polygon that is not one, or has fewer than three points,
    stays as it is.
    """
    polygons = entry.get('segmentation')
    if isinstance(polygons, list):
        entry['segmentation'] = [_packed(polygon) for polygon in polygons]
    return entry


def is_packed(segmentation: Any) -> bool:
    """Whether it is a list of packed polygons."""
    return isinstance(segmentation, list) and set(map(type, segmentation)) == {array}


def check_segmentation(segmentation: Any, height: int, width: int) -> Extent | None:
    """The extent of a segmentation of which pycocotools makes the mask that is meant.

    Polygons may reach beyond the image, as a few of COCO's do, but not by more than its size. A
    polygon of fewer than three points, which encloses nothing, may stand beside others.

    Args:
        segmentation: List of polygons [x1, y1, x2, y2, ...] in pixels, or a dict with ``size``
            [height, width] and ``counts``, the lengths of runs as a list or compressed as text.
        height: Of the image.
        width: Of the image.

    Returns:
        None for an RLE without a pixel.

    Raises:
        ValueError: It is something else, broken, or that of another image.
    """
    if isinstance(segmentation, dict):
        check_rle(segmentation, (height, width))
        return rle_extent(encode_segmentation(segmentation, height, width))
    if isinstance(segmentation, list):
        return _check_polygons(segmentation, height, width)
    raise ValueError(
        'segmentation must be a list of polygons or an RLE (a dict with size and counts), got '
        f'{_short(segmentation)}'
    )


def encode_segmentation(segmentation: list | dict, height: int, width: int) -> dict:
    """A checked segmentation as pycocotools' compressed RLE."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= _MIN_NUMBERS]
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    if isinstance(segmentation['counts'], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return segmentation


def rle_extent(rle: dict) -> Extent | None:
    """Of the pixels of a compressed RLE; None if it has none."""
    x, y, w, h = coco_mask.toBbox(rle).tolist()
    return (x, y, x + w, y + h) if w and h else None


def _packed(polygon: Any) -> Any:
    if (
        not isinstance(polygon, list)
        or len(polygon) < _MIN_NUMBERS
        or len(polygon) % 2
        or not set(map(type, polygon)) <= _NUMBERS
    ):
        return polygon
    try:
        return array('d', polygon)
    except OverflowError:  # JSON's integers have no limit
        return polygon


def _check_polygons(polygons: list, height: int, width: int) -> Extent:
    extents = []
    for polygon in polygons:
        if not isinstance(polygon, (list, array)) or not set(map(type, polygon)) <= _NUMBERS:
            raise ValueError(
                'segmentation must be a list of polygons, each a list of numbers x1, y1, x2, y2, '
                f'..., got {_short(polygon)} for a polygon'
            )
        if len(polygon) % 2:
            raise ValueError(
                'a polygon must have an even count of numbers, x1, y1, x2, y2, ..., got '
                f'{len(polygon)}'
            )
        if len(polygon) < _MIN_NUMBERS:
            continue
        x, y = polygon[0::2], polygon[1::2]
        extent = min(x), min(y), max(x), max(y)
        if (
            min(extent[0] + width, extent[1] + height) < 0
            or extent[2] > 2 * width
            or extent[3] > 2 * height
        ):
            raise ValueError(
                f'a polygon reaches far out of the image of {width}x{height} pixels: x1, y1, x2, '
                f'y2 = {extent}'
            )
        if math.isnan(sum(polygon)):
            raise ValueError('a polygon has coordinates that are not numbers (NaN)')
        extents.append(extent)
    if not extents:
        raise ValueError(
            'segmentation must have a polygon of at least three points, got '
            f'{_short(polygons)} (a box is no polygon)'
        )
    if len(extents) == 1:
        return extents[0]
    x1, y1, x2, y2 = zip(*extents)
    return min(x1), min(y1), max(x2), max(y2)


def _short(value: Any) -> str:
    """For messages."""
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}...'
