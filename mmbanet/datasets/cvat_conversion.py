"""COCO panoptic annotations from CVAT's export "CVAT for images 1.1": one XML file.

The format is that of https://docs.cvat.ai/docs/manual/advanced/xml_format/: ``image`` elements
with ``name``, ``width`` and ``height``, and in them ``polygon`` (``points`` "x,y;x,y;..."), ``box``
(``xtl``, ``ytl``, ``xbr``, ``ybr``), ``ellipse`` (``cx``, ``cy``, ``rx``, ``ry``) and ``mask``
(``left``, ``top``, ``width``, ``height`` and ``rle``, lengths of runs of zeros and ones in turn,
row by row); each with ``label``, ``z_order`` (higher is in front), perhaps ``rotation`` (degrees,
clockwise) and ``group_id``, which shapes of one thing have in common. The export of a whole project
keeps an image in a folder of its ``subset``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from .annotation_files import Notices, read_bytes
from .class_map import ClassMap
from .drawn_shapes import (
    DrawnImage,
    Shape,
    box_mask,
    convert_drawn,
    ellipse_mask,
    pasted_mask,
    polygon_mask,
)
from .panoptic_writer import DataSet, Part, below, read_splits

# File and folder of images that are not split.
_WHOLE = ('annotations.xml', 'images')
_IGNORED = ('tag',)  # of the image as a whole


def cvat_data_set(
    root: str | Path,
    class_map: ClassMap,
    *,
    splits: Iterable[str] = ('train', 'val'),
    annotations: str | None = None,
    images: str | None = None,
    val_share: float | None = None,
) -> DataSet:
    """CVAT's annotations of images; which shape lies in front: :mod:`.drawn_shapes`.

    Args:
        root: Folder of the data set.
        class_map: What the labels of the shapes mean.
        splits: Names of the splits.
        annotations: XML file of a split below ``root``, ``'{split}.xml'`` by default; with
            ``val_share``, of all images, ``'annotations.xml'`` by default.
        images: Folder of a split's images below ``root``, ``'{split}'`` by default; with
            ``val_share``, of all images, ``'images'`` by default.
        val_share: If given, this share of the images is the split ``val``, the others ``train``.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: An argument or a file is not as above.
    """
    xml, folder_of_images = ('{split}.xml', '{split}') if val_share is None else _WHOLE

    def read(split: str | None) -> tuple[Path, list[DrawnImage]]:
        folder = below(Path(root), images or folder_of_images, split)
        return folder, _read(below(Path(root), annotations or xml, split), folder)

    found = read_splits(read, splits, val_share, lambda image: image.file_name)
    convert = partial(convert_drawn, class_map=class_map, notices=Notices())
    parts = {
        split: Part(folder, drawn, convert, [image.file_name for image in drawn])
        for split, (folder, drawn) in found.items()
    }
    return DataSet(parts, class_map.categories, 'of CVAT, stuff below things of its z_order')


def _read(path: Path, folder: Path) -> list[DrawnImage]:
    content = read_bytes(str(path), "CVAT's XML file")
    try:
        tree = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f'{path}: no valid XML ({error}); export it again') from None
    if tree.find('track') is not None:
        raise ValueError(
            f'{path}: an export of a video ("CVAT for video"); export it as "CVAT for images 1.1"'
        )
    elements = tree.findall('image')
    if tree.tag != 'annotations' or not elements:
        raise ValueError(
            f'{path}: no export of CVAT: expected <annotations> with <image> elements; export it '
            'as "CVAT for images 1.1"'
        )
    if not folder.is_dir():
        raise FileNotFoundError(f'folder of images not found: {folder.absolute()}')
    return [_read_image(element, path, folder) for element in elements]


def _read_image(element: ElementTree.Element, path: Path, folder: Path) -> DrawnImage:
    name = element.get('name')
    if not name:
        raise ValueError(f'{path}: an <image> without a name; export it again')
    subset = element.get('subset')
    if subset and (folder / subset / name).is_file():
        name = f'{subset}/{name}'
    source = f'{path}: image {name}'
    try:
        size = int(_number(element, 'height')), int(_number(element, 'width'))
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None

    def read_shapes() -> Iterator[Shape]:
        for number, shape in enumerate(s for s in element if s.tag not in _IGNORED):
            try:
                yield _read_shape(shape, size)
            except ValueError as error:
                raise ValueError(f'{source}, shape {number} <{shape.tag}>: {error}') from None

    return DrawnImage(folder / name, name, source, size, read_shapes)


def _read_shape(shape: ElementTree.Element, size: tuple[int, int]) -> Shape:
    label = shape.get('label')
    if not label:
        raise ValueError('it has no label')
    numbers = {
        'box': ('xtl', 'ytl', 'xbr', 'ybr'),
        'ellipse': ('cx', 'cy', 'rx', 'ry'),
        'mask': ('left', 'top', 'width', 'height'),
    }
    values = [_number(shape, key) for key in numbers.get(shape.tag, ())]
    degrees = _number(shape, 'rotation', '0')
    if shape.tag == 'polygon':
        mask = polygon_mask(_read_points(shape.get('points', '')), size)
    elif shape.tag == 'box':
        mask = box_mask(*values, size, degrees)
    elif shape.tag == 'ellipse':
        mask = ellipse_mask(*values, size, degrees)
    elif shape.tag == 'mask':
        left, top, width, height = map(int, values)
        mask = pasted_mask(_read_rle(shape.get('rle', ''), height, width), left, top, size)
    else:
        raise ValueError('it has no area; draw a polygon or a mask in its place, or delete it')
    group = shape.get('group_id', '0')  # 0 is none
    return Shape(label, mask, None if group == '0' else group, int(_number(shape, 'z_order', '0')))


def _number(element: ElementTree.Element, key: str, default: str | None = None) -> float:
    text = element.get(key, default)
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'"{key}" must be a number, got {text!r}')
    return value


def _read_points(text: str) -> list[tuple[float, float]]:
    try:
        points = [tuple(map(float, point.split(','))) for point in text.split(';')]
    except ValueError:
        points = [()]
    if any(len(point) != 2 or not all(map(math.isfinite, point)) for point in points):
        raise ValueError(f'"points" must be "x,y;x,y;...", got {text!r:.60}')
    return points


def _read_rle(text: str, height: int, width: int) -> np.ndarray:
    """(height, width) bool."""
    try:
        runs = [int(run) for run in text.split(',')]
    except ValueError:
        runs = [-1]
    if min(runs) < 0 or sum(runs) != height * width:
        raise ValueError(
            f'"rle" must be the lengths of runs that fill {height}x{width} pixels, got {text!r:.60}'
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
