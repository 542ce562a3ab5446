"""COCO panoptic annotations from semantic label images: components of thing classes are instances.

Touching things of one class become one: a semantic label says nothing that could part them. Say so
beside every figure that comes of such data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mmbanet.messages import counted

from .class_map import ClassMap
from .image_files import image_size, open_image
from .panoptic_writer import IMAGE_SUFFIXES, Annotated, DataSet, Layer, Part, below, flatten

LABEL_SUFFIX = '.png'


def semantic_data_set(
    root: str | Path,
    class_map: ClassMap,
    *,
    splits: Iterable[str] = ('train', 'val'),
    images: str = '{split}',
    labels: str = '{split}annot',
    min_area: int = 100,
    connectivity: int = 8,
) -> DataSet:
    """Semantic label images, of which the connected components of things are the instances.

    Args:
        root: Folder of the data set.
        class_map: What the values of the label images mean.
        splits: Names of the splits.
        images: Folder of a split's images below ``root``.
        labels: Folder of a split's label images, PNGs with the images' stems.
        min_area: A component of a thing class with fewer pixels becomes void.
        connectivity: 4 or 8: whether pixels that share a corner only are connected.

    Raises:
        ValueError: An argument or a label image is not as above.
        FileNotFoundError: A folder or a file is missing.
    """
    if min_area < 1:
        raise ValueError(f'min_area must be at least 1, got {min_area}')
    if connectivity not in (4, 8):
        raise ValueError(f'connectivity must be 4 or 8, got {connectivity}')
    folders = {s: [below(Path(root), pattern, s) for pattern in (images, labels)] for s in splits}
    convert = partial(_convert, class_map=class_map, min_area=min_area, connectivity=connectivity)
    parts = {split: Part(both[0], pair_files(*both), convert) for split, both in folders.items()}
    return DataSet(parts, class_map.categories, 'components of semantic labels')


def panoptic_segments(
    labels: np.ndarray, categories: list[dict], min_area: int = 100, connectivity: int = 8
) -> tuple[np.ndarray, list[dict]]:
    """Parts a semantic label map into segments.

    Args:
        labels: (H, W) int, positions in ``categories``; -1 is void.
        categories: COCO categories with ``id``, ``isthing`` and ``color``.
        min_area: A component of a thing class with fewer pixels becomes void.
        connectivity: 4 or 8.

    Returns:
        (H, W) int64 map of segment ids, 0 is void, and its ``segments_info``.
    """
    layers = []
    for label, category in enumerate(categories):
        mask = labels == label
        if not mask.any():
            continue
        parts = _components(mask, min_area, connectivity) if category['isthing'] else [mask]
        layers += [Layer(category, part) for part in parts]
    return flatten(labels.shape, layers)


def _components(mask: np.ndarray, min_area: int, connectivity: int) -> Iterator[np.ndarray]:
    """The large components of a mask (H, W) bool, in the order of their first pixels."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(
        mask.view(np.uint8), connectivity=connectivity, ltype=cv2.CV_32S
    )
    first = {}
    for number in range(1, count):
        if stats[number, cv2.CC_STAT_AREA] >= min_area:
            top = stats[number, cv2.CC_STAT_TOP]
            first[number] = top, int(np.argmax(parts[top] == number))
    for number in sorted(first, key=first.get):
        yield parts == number


def pair_files(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Each image of a folder with its label image, in the order of their names."""
    for what, folder in (('images', images), ('label images', labels)):
        if not folder.is_dir():
            raise FileNotFoundError(f'folder of {what} not found: {folder.resolve()}')
    image_of = _by_stem(images, IMAGE_SUFFIXES)
    label_of = _by_stem(labels, (LABEL_SUFFIX,))
    if not image_of:
        raise FileNotFoundError(f'no images ({", ".join(IMAGE_SUFFIXES)}) in {images.resolve()}')
    for what, found, others, folder in (
        ('image', image_of, label_of, labels),
        ('label image', label_of, image_of, images),
    ):
        lonely = sorted(found.keys() - others.keys())
        if lonely:
            raise FileNotFoundError(
                f'without a counterpart of the same name: {len(lonely)} of '
                f'{counted(len(found), what)} in {folder.resolve()}, the first '
                f'is {found[lonely[0]].name}'
            )
    return [(image, label_of[stem]) for stem, image in image_of.items()]


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder by their stems, sorted."""
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and paths.setdefault(path.stem, path) != path:
            raise ValueError(f'{path} and {paths[path.stem].name}: two files of the same stem')
    return paths


def read_values(path: Path) -> np.ndarray:
    """Grey levels, palette indices or packed colours of a label image, (H, W) int64."""
    with open_image(path) as image:
        values = np.asarray(image.convert('RGB') if image.mode == 'RGBA' else image)
    values = values.astype(np.int64)
    if values.ndim == 2:
        return values
    if values.shape[2] != 3:
        raise ValueError(f'{path}: expected grey, palette or RGB, got {values.shape[2]} channels')
    return values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]


def _convert(
    files: tuple[Path, Path], class_map: ClassMap, min_area: int, connectivity: int
) -> Annotated:
    """An image, of its file and that of its labels."""
    image, label = files
    labels = class_map.labels(read_label_image(image, label), label)
    segments = panoptic_segments(labels, class_map.categories, min_area, connectivity)
    return Annotated(image.name, *segments)


def read_label_image(image: Path, label: Path) -> np.ndarray:
    """:func:`read_values` of a label image.

    Raises:
        ValueError: It is not readable, or has another size than its image, be that turned or not.
    """
    values = read_values(label)
    if all(values.shape != image_size(image, exif) for exif in (False, True)):
        height, width = image_size(image, exif=True)
        raise ValueError(
            f'{label}: {values.shape[1]}x{values.shape[0]} pixels, but its image {image} has '
            f'{width}x{height}'
        )
    return values
