"""COCO panoptic data sets, written: what all conversions end with."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from mmbanet.messages import counted

from .panoptic_files import (
    distinct_ids,
    partial_folder,
    segment_info,
    write_segment_map,
)
from .rle import encode_rle

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff')


class Layer(NamedTuple):
    """Pixels of one class.

    Attributes:
        category: Entry of ``categories``.
        mask: (H, W) bool.
        is_crowd: Whether it is a group of things that were not told apart.
    """

    category: dict
    mask: np.ndarray
    is_crowd: bool = False


class Annotated(NamedTuple):
    """An image with its annotation, to be written.

    Attributes:
        file_name: Of the image, below its folder.
        ids: (H, W) segment ids, 0 is void.
        segments: Entries of ``segments_info``.
        instances: Things with their whole masks, also where another segment lies over them; None
            in data that does not know them.
    """

    file_name: str
    ids: np.ndarray
    segments: list[dict]
    instances: list[Layer] | None = None


class Part(NamedTuple):
    """The training or validation part of a data set.

    Attributes:
        images: Folder of the images.
        items: What becomes an image each.
        convert: Makes an :class:`Annotated` of an item.
        names: Of the images, as far as they are known before they are converted.
    """

    images: Path
    items: Sequence[Any]
    convert: Callable[[Any], Annotated]
    names: Iterable[str] = ()


class DataSet(NamedTuple):
    """What a conversion makes of a data set in another format, for :func:`write_data_set`.

    Attributes:
        parts: By their names.
        categories: Of the annotation files.
        description: Of the data, for the annotation files.
    """

    parts: Mapping[str, Part]
    categories: list[dict]
    description: str


def flatten(size: tuple[int, int], layers: Sequence[Layer]) -> tuple[np.ndarray, list[dict]]:
    """The panoptic map of layers, the later over the earlier; all of one stuff class are one.

    Args:
        size: H and W.
        layers: From the back to the front.

    Returns:
        (H, W) int64 map of segment ids, 0 is void, and its ``segments_info``. What lies wholly
        under others is no segment.
    """
    owner = np.full(size, -1, dtype=np.int64)
    first_of = {}
    for number, layer in enumerate(layers):
        if not layer.category['isthing']:
            number = first_of.setdefault(layer.category['id'], number)
        owner[layer.mask] = number
    seen = [number for number in np.unique(owner).tolist() if number >= 0]
    numbers = distinct_ids([tuple(layers[number].category['color']) for number in seen])
    ids = np.zeros(size, dtype=np.int64)
    segments = []
    for number, segment_id in zip(seen, numbers):
        mask = owner == number
        ids[mask] = segment_id
        info = segment_info(segment_id, layers[number].category['id'], mask)
        segments.append(dict(info, iscrowd=int(layers[number].is_crowd)))
    return ids, segments


def write_data_set(out: str | Path, data_set: DataSet, overwrite: bool = False) -> Path:
    """Writes a COCO panoptic data set.

    ``out`` then holds, for each part, ``annotations/panoptic_{part}.json``,
    ``annotations/panoptic_{part}/*.png``, ``annotations/instances_{part}.json`` where instances are
    known, and the images in ``{part}/``: a link to their folder, or the folder itself. A part's
    annotations appear when complete.

    Args:
        out: Folder to write to; may be that of the images.
        data_set: What is written; its images and annotations are read meanwhile.
        overwrite: Replace annotations of the same names.

    Returns:
        ``out``.

    Raises:
        FileExistsError: ``out`` holds annotations of a part, or another folder of its name.
        FileNotFoundError: A file of the data set is missing.
        ValueError: Two images of a part have one stem, or a file is not as it must be.
    """
    out = Path(out)
    annotations = out / 'annotations'
    for name, part in data_set.parts.items():
        for kind in ('panoptic', 'instances'):
            file = annotations / f'{kind}_{name}.json'
            if file.exists() and not overwrite:
                raise FileExistsError(f'{file} exists: overwrite it or choose another folder')
        link = out / name
        if os.path.lexists(link) and not (link.exists() and link.samefile(part.images)):
            raise FileExistsError(f'{link} exists and is not {part.images}: choose another folder')
        if not part.items:
            raise ValueError(f'there is no image to convert for {name} in {part.images.absolute()}')
        taken = {}
        for file_name in part.names:
            _png_of(file_name, taken)
    for name, part in data_set.parts.items():
        with partial_folder(annotations / f'panoptic_{name}') as folder:
            written = map(part.convert, tqdm(part.items, desc=name, unit='image', disable=None))
            (folder / 'pngs').mkdir()
            contents = _write_maps(folder / 'pngs', written, data_set.categories)
            for kind, content in contents.items():
                content['info'] = dict(description=f'{data_set.description}, {name}')
                (folder / f'{kind}.json').write_text(json.dumps(content))
            if not (out / name).exists():
                os.symlink(part.images.resolve(), out / name, target_is_directory=True)
            _publish(folder, annotations, name)
    return out


def read_splits(
    read: Callable[[str | None], tuple[Path, Sequence[Any]]],
    splits: Iterable[str],
    val_share: float | None,
    name: Callable[[Any], str],
) -> dict[str, tuple[Path, Sequence[Any]]]:
    """The folder of the images and the items of each split.

    Args:
        read: Gives them of a split; of None, of what is not split yet.
        splits: Names of the splits.
        val_share: If given, this share of the items is the split ``val``, the others ``train``, the
            same whenever the names are the same.
        name: Of an item.

    Raises:
        ValueError: ``val_share`` is not between 0 and 1, or leaves one of the two empty.
    """
    if val_share is None:
        return {split: read(split) for split in splits}
    folder, items = read(None)
    parts = _split_off(items, val_share, name)
    return {split: (folder, of_split) for split, of_split in parts.items()}


def below(root: Path, pattern: str, split: str | None) -> Path:
    """A path below ``root``, in which ``{split}`` stands for the split if there is one."""
    return root / (pattern if split is None else pattern.replace('{split}', split))


def _split_off(items: Sequence[Any], val_share: float, name: Callable[[Any], str]) -> dict:
    number = round(len(items) * val_share)
    if not 0 < val_share < 1 or not 0 < number < len(items):
        raise ValueError(
            f'val_share must leave images for training and for validation, got {val_share} of '
            f'{counted(len(items), "image")}'
        )
    by_hash = sorted(items, key=lambda item: (zlib.crc32(name(item).encode()), name(item)))
    chosen = {name(item) for item in by_hash[:number]}
    parts = {'train': [], 'val': []}
    for item in items:
        parts['val' if name(item) in chosen else 'train'].append(item)
    return parts


def _write_maps(
    folder: Path, written: Iterable[Annotated], categories: list[dict]
) -> dict[str, dict]:
    """Writes the PNGs; returns ``panoptic`` and, if there are any, ``instances`` annotations."""
    images, annotations, instances, taken = [], [], [], {}
    for number, found in enumerate(written, start=1):
        png = _png_of(found.file_name, taken)
        write_segment_map(folder / png, found.ids)
        height, width = found.ids.shape
        images.append(dict(id=number, file_name=found.file_name, height=height, width=width))
        annotations.append(dict(image_id=number, file_name=png, segments_info=found.segments))
        for layer in found.instances or ():
            info = segment_info(len(instances) + 1, layer.category['id'], layer.mask)
            info.update(image_id=number, segmentation=encode_rle(layer.mask))
            instances.append(dict(info, iscrowd=int(layer.is_crowd)))
    contents = dict(panoptic=dict(images=images, annotations=annotations, categories=categories))
    if instances:
        things = [category for category in categories if category['isthing']]
        contents['instances'] = dict(images=images, annotations=instances, categories=things)
    return contents


def _png_of(file_name: str, taken: dict[str, str]) -> str:
    """The name of an image's PNG, which is noted in those that are taken, with their images."""
    png = f'{Path(file_name).stem}.png'
    if png in taken:
        raise ValueError(
            f'{taken[png]} and {file_name}: two images of one stem, {png} would be the PNG of '
            'both; rename one of them'
        )
    taken[png] = file_name
    return png


def _publish(folder: Path, annotations: Path, name: str) -> None:
    """Puts the complete PNGs and annotation files of a folder in place of what was there.

    By renaming alone, which needs no room on the disk.
    """
    files = [(kind, annotations / f'{kind}_{name}.json') for kind in ('instances', 'panoptic')]
    for _, file in files:
        file.unlink(missing_ok=True)
    target = annotations / f'panoptic_{name}'
    if os.path.lexists(target):
        target.rename(folder / 'replaced')
    (folder / 'pngs').rename(target)
    for kind, file in files:
        if (folder / f'{kind}.json').exists():
            (folder / f'{kind}.json').rename(file)
