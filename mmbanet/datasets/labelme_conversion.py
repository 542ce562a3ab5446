"""COCO panoptic annotations from Labelme's: a JSON file per image.

The format is that of https://github.com/wkentaro/labelme: ``imagePath`` (relative to the file),
``imageHeight``, ``imageWidth`` and ``shapes``, each with ``label``, ``points`` [[x, y], ...],
``shape_type`` (``polygon``, ``rectangle``: two corners, ``circle``: its middle and a point on it,
``mask``: two corners and a PNG in base64), and ``group_id``, which shapes of one thing have in
common.
"""

from __future__ import annotations

import base64
import binascii
import math
import os.path as osp
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .annotation_files import Notices, read_json
from .class_map import ClassMap
from .coco_file import is_integer, is_number, show
from .drawn_shapes import (
    DrawnImage,
    Shape,
    box_mask,
    convert_drawn,
    decode_png_mask,
    ellipse_mask,
    pasted_mask,
    polygon_mask,
)
from .panoptic_writer import Annotated, DataSet, Part, below, read_splits


def labelme_data_set(
    root: str | Path,
    class_map: ClassMap,
    *,
    splits: Iterable[str] = ('train', 'val'),
    annotations: str | None = None,
    val_share: float | None = None,
) -> DataSet:
    """Labelme's annotations; which shape lies in front: :mod:`.drawn_shapes`.

    Images without a JSON file are left out.

    Args:
        root: Folder of the data set.
        class_map: What the labels of the shapes mean.
        splits: Names of the splits.
        annotations: Folder of a split's JSON files below ``root``, ``'{split}'`` by default;
            with ``val_share``, of all of them, ``root`` itself by default. The images are in it.
        val_share: If given, this share of the images is the split ``val``, the others ``train``.

    Raises:
        FileNotFoundError: A folder or an image is missing.
        ValueError: An argument or a file is not as above.
    """
    pattern = annotations or ('{split}' if val_share is None else '.')

    def read(split: str | None) -> tuple[Path, list[Path]]:
        folder = below(Path(root), pattern, split)
        return folder, _files(folder)

    found = read_splits(read, splits, val_share, lambda path: path.name)
    notices = Notices()

    def convert(path: Path, folder: Path) -> Annotated:
        return convert_drawn(_read(path, folder), class_map, notices)

    parts = {
        split: Part(folder, files, partial(convert, folder=folder))
        for split, (folder, files) in found.items()
    }
    return DataSet(parts, class_map.categories, 'of Labelme, stuff below things')


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"folder of Labelme's JSON files not found: {folder.absolute()}")
    files = sorted(folder.glob('*.json'))
    if not files:
        raise FileNotFoundError(f'no JSON files of Labelme in {folder.absolute()}')
    return files


def _read(path: Path, folder: Path) -> DrawnImage:
    content = read_json(str(path), "Labelme's file")
    name, shapes = content.get('imagePath'), content.get('shapes')
    size = content.get('imageHeight'), content.get('imageWidth')
    if not isinstance(name, str) or not name or not isinstance(shapes, list):
        raise ValueError(
            f'{path}: no file of Labelme: expected "imagePath" and a list of "shapes", got '
            f'{show(content, "imagePath")} and {show(content, "shapes")}'
        )
    if not all(is_integer(side) and side > 0 for side in size):
        raise ValueError(
            f'{path}: "imageHeight" and "imageWidth" must be positive integers, got {size[0]!r} '
            f'and {size[1]!r}; save it with Labelme 3.16 or newer'
        )
    # Of Windows, the path has backslashes.
    below = osp.normpath(name.replace('\\', '/'))
    if below.startswith('..') or osp.isabs(below):
        raise ValueError(
            f'{path}: its image {name} does not lie in {folder.absolute()}; put images and JSON '
            'files into one folder'
        )

    def read_shapes() -> Iterator[Shape]:
        for number, shape in enumerate(shapes):
            try:
                yield _read_shape(shape, size)
            except ValueError as error:
                raise ValueError(f'{path}: shape {number}: {error}') from None

    return DrawnImage(folder / below, below, str(path), size, read_shapes)


def _read_shape(shape: Any, size: tuple[int, int]) -> Shape:
    if not isinstance(shape, dict) or not isinstance(shape.get('label'), str):
        raise ValueError(f'expected an object with a "label", got {shape!r:.60}')
    kind, points = shape.get('shape_type', 'polygon'), shape.get('points')
    is_points = isinstance(points, list) and all(
        isinstance(p, list) and len(p) == 2 and all(is_number(v) and math.isfinite(v) for v in p)
        for p in points
    )
    if not is_points:
        raise ValueError(f'"points" must be a list of x, y, got {points!r:.60}')
    group = shape.get('group_id')
    if not isinstance(group, int | str | None):
        raise ValueError(f'"group_id" must be an integer, a text or null, got {group!r:.60}')
    if kind in ('rectangle', 'circle', 'mask') and len(points) != 2:
        raise ValueError(f'a {kind} must have two points, got {len(points)}')
    if kind == 'polygon':
        mask = polygon_mask(points, size)
    elif kind == 'rectangle':
        mask = box_mask(*points[0], *points[1], size)
    elif kind == 'circle':
        radius = math.dist(*points)
        mask = ellipse_mask(*points[0], radius, radius, size)
    elif kind == 'mask':
        mask = _read_mask(shape.get('mask'), points, size)
    else:
        raise ValueError(
            f'a {kind} has no area; draw a polygon in its place, or delete it in Labelme'
        )
    return Shape(shape['label'], mask, group)


def _read_mask(text: Any, points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """Of a PNG in base64, which fills the corners' pixels and those between them."""
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ValueError(f'"mask" must be a PNG in base64, got {text!r:.60}') from None
    mask = decode_png_mask(content)
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    if mask.shape != (bottom - top + 1, right - left + 1):
        raise ValueError(
            f'its mask has {mask.shape[0]}x{mask.shape[1]} pixels (height x width), its points say '
            f'{bottom - top + 1}x{right - left + 1}'
        )
    return pasted_mask(mask, left, top, size)
