"""Polygons and other shapes that were drawn on images in an annotation tool, as panoptic segments.

Within one level (``z_order``) stuff lies below things; else what was drawn later lies in front, as
in the tools. Shapes of one group and class are one thing, each at its own place in the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .annotation_files import Notices
from .class_map import ClassMap
from .image_files import check_image_header
from .panoptic_writer import Annotated, Layer, flatten
from .segmentation import check_segmentation, encode_segmentation


class Shape(NamedTuple):
    """One shape of an image.

    Attributes:
        name: Of its class, in the annotations.
        mask: (H, W) bool.
        group: Other than None, shapes of one name and group are one thing.
        level: Higher ones lie in front.
    """

    name: str
    mask: np.ndarray
    group: object = None
    level: int = 0


class DrawnImage(NamedTuple):
    """An image with what was drawn on it.

    Attributes:
        path: Of the image.
        file_name: Below the folder of the images.
        source: The annotation file, and where in it; for messages.
        size: H and W, as the annotation file states them.
        read_shapes: Makes the shapes; may raise a ValueError.
    """

    path: Path
    file_name: str
    source: str
    size: tuple[int, int]
    read_shapes: Callable[[], Iterable[Shape]]


def convert_drawn(image: DrawnImage, class_map: ClassMap, notices: Notices) -> Annotated:
    """The panoptic map of what was drawn, and the things with their whole masks.

    Raises:
        FileNotFoundError: The image is missing.
        ValueError: It has another size, or a shape is not as it must be or of no class.
    """
    if not image.path.is_file():
        raise FileNotFoundError(f'{image.source}: its image not found: {image.path.absolute()}')
    check_image_header(str(image.path), image.size, image.source, True, notices)
    drawn, levels, layers = [], {}, {}
    for number, shape in enumerate(image.read_shapes()):
        category = class_map.category_of(shape.name, image.source)
        if category is None:
            continue
        if not shape.mask.any():
            notices.say('no pixel', f'{image.source}: shapes without a pixel are left out')
            continue
        single = shape.group is None or not category['isthing']
        key = (category['id'], number if single else ('group', shape.group))
        if key in layers:
            layers[key] = Layer(category, layers[key].mask | shape.mask)
        else:
            layers[key] = Layer(category, shape.mask)
        levels[key] = shape.level, category['isthing'], number
        drawn.append((levels[key], key, shape.mask))
    numbers = {key: number for number, key in enumerate(sorted(layers, key=levels.get))}
    owner = np.full(image.size, -1)
    for _, key, mask in sorted(drawn, key=lambda part: part[0]):
        owner[mask] = numbers[key]
    ordered = [layers[key] for key in numbers]
    visible = [layer._replace(mask=owner == number) for number, layer in enumerate(ordered)]
    ids, segments = flatten(image.size, visible)
    return Annotated(
        image.file_name, ids, segments, [layer for layer in ordered if layer.category['isthing']]
    )


def polygon_mask(points: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a polygon, as COCO rasterises it.

    Args:
        points: x, y in pixels of each corner.
        size: H and W of the image.

    Raises:
        ValueError: It has fewer than three corners, or reaches far out of the image.
    """
    if len(points) < 3:
        raise ValueError(f'a polygon needs three points at least, got {len(points)}')
    segmentation = [[float(value) for point in points for value in point]]
    check_segmentation(segmentation, *size)
    return coco_mask.decode(encode_segmentation(segmentation, *size)).astype(bool)


def box_mask(
    x1: float, y1: float, x2: float, y2: float, size: tuple[int, int], degrees: float = 0
) -> np.ndarray:
    """(H, W) bool of a rectangle, turned clockwise about its middle."""
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    return polygon_mask(
        [
            (x + (u - x) * cos - (v - y) * sin, y + (u - x) * sin + (v - y) * cos)
            for u, v in corners
        ],
        size,
    )


def ellipse_mask(
    x: float, y: float, rx: float, ry: float, size: tuple[int, int], degrees: float = 0
) -> np.ndarray:
    """(H, W) bool of an ellipse with the half axes ``rx`` and ``ry``, turned clockwise."""
    if not (rx > 0 and ry > 0):
        raise ValueError(f'the half axes of an ellipse must be positive, got {rx} and {ry}')
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    v, u = (np.arange(n)[shape] + 0.5 for n, shape in zip(size, (np.s_[:, None], np.s_[None])))
    along, across = (u - x) * cos + (v - y) * sin, (v - y) * cos - (u - x) * sin
    return (along / rx) ** 2 + (across / ry) ** 2 <= 1


def pasted_mask(mask: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool of a mask whose first pixel lies at ``left``, ``top``.

    Raises:
        ValueError: It reaches out of the image.
    """
    bottom, right = top + mask.shape[0], left + mask.shape[1]
    if min(left, top) < 0 or bottom > size[0] or right > size[1]:
        raise ValueError(
            f'a mask at x1, y1, x2, y2 = {left}, {top}, {right}, {bottom} reaches out of the image '
            f'of {size[1]}x{size[0]} pixels'
        )
    whole = np.zeros(size, dtype=bool)
    whole[top:bottom, left:right] = mask
    return whole


def decode_png_mask(content: bytes) -> np.ndarray:
    """(h, w) bool of a PNG with a mask.

    Raises:
        ValueError: It is none.
    """
    values = np.frombuffer(content, dtype=np.uint8)
    image = cv2.imdecode(values, cv2.IMREAD_GRAYSCALE) if content else None
    if image is None:
        raise ValueError('its mask is not readable as a PNG')
    return image > 0
