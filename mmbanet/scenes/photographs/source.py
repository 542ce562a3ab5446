"""A COCO panoptic data set as the source of frames and of cut-outs."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mmbanet.datasets import PanopticAnnotations
from mmbanet.datasets.annotation_files import read_segment_ids
from mmbanet.datasets.coco_file import name_image
from mmbanet.datasets.file_check import (
    check_pngs,
    find_unreadable,
    images_of,
    pngs_of,
    raise_first,
)
from mmbanet.datasets.image_files import open_image, read_image

#: Quality of scenes whose frame is no JPEG.
JPEG_QUALITY = 95
#: Photographs that are kept in memory: the cut-outs of a scene come from few.
CACHE_SIZE = 64

#: The label of pixels without annotation.
VOID = 255

# The luminance table of quality 50 (ITU-T T.81, annex K), which the IJG's library scales.
_LUMINANCE_SUM = 3685


class Photograph(NamedTuple):
    """An image with its panoptic map.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        ids: (H, W) int32, the segment ids.
        known_ids: (S,) int32, sorted, those that the annotation lists.
        known_labels: (S,) uint8, the positions of their categories.
    """

    image: np.ndarray
    ids: np.ndarray
    known_ids: np.ndarray
    known_labels: np.ndarray

    def labels(self, window: tuple[slice, slice]) -> np.ndarray:
        """(h, w) uint8: the labels in a part of the image; void is 255."""
        ids = self.ids[window]
        place = np.searchsorted(self.known_ids, ids).clip(max=len(self.known_ids) - 1)
        return np.where(self.known_ids[place] == ids, self.known_labels[place], VOID)


class PhotographSource:
    """A split of a COCO panoptic data set, read image by image.

    Args:
        root: Folder with ``annotations/panoptic_{split}*.json``, the folder of PNGs of the same
            name, and the images in ``{split}*``: ``train`` stands for ``train2017``, too.
        split: ``train`` or ``val``.
        long_side: The longer side of the images in pixels, to which they are scaled; as they are
            by default.

    Raises:
        FileNotFoundError: A folder or the annotation file is missing.
        ValueError: The split holds fewer than two images, or no things.
    """

    def __init__(self, root: str | Path, split: str, long_side: int | None = None) -> None:
        root = Path(root)
        self.file = _find_annotations(root, split)
        self.long_side = long_side
        name = self.file.stem.removeprefix('panoptic_')
        self.image_folder, self.png_folder = root / name, self.file.with_suffix('')
        for what, folder in (('images', self.image_folder), ('PNGs', self.png_folder)):
            if not folder.is_dir():
                raise FileNotFoundError(f'folder of {what} not found: {folder.resolve()}')
        found = PanopticAnnotations(str(self.file))
        self.categories = sorted(found.categories, key=lambda c: not c['isthing'])
        self.annotations = sorted(found.annotations.values(), key=lambda a: a['image_id'])
        self.images = [found.images[a['image_id']] for a in self.annotations]
        self.label_of = {c['id']: label for label, c in enumerate(self.categories)}
        self.is_thing = [bool(c['isthing']) for c in self.categories]
        images, pngs = str(self.image_folder), str(self.png_folder)
        check_pngs(pngs_of(found, pngs), pngs, found.ann_file, found.notices)
        faults = find_unreadable(images_of(found, images), images, True, found.notices)
        raise_first(faults, found.ann_file)
        num_things = sum(
            self.is_thing[self.label_of[segment['category_id']]]
            for annotation in self.annotations
            for segment in annotation['segments_info']
        )
        if len(self.images) < 2:
            raise ValueError(
                f'{self.file}: scenes take cut-outs from other images than their frame: expected '
                f'two images at least, got {len(self.images)}'
            )
        if num_things == 0:
            raise ValueError(f'{self.file}: no things to cut out')
        self.load = lru_cache(CACHE_SIZE)(self._load)

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image after scaling."""
        height, width = self.images[index]['height'], self.images[index]['width']
        if self.long_side is None:
            return height, width
        factor = self.long_side / max(height, width)
        return max(round(height * factor), 1), max(round(width * factor), 1)

    def _load(self, index: int) -> Photograph:
        """Reads an image and its map; :attr:`load` remembers the latest."""
        path = self.image_folder / self.images[index]['file_name']
        png = self.png_folder / self.annotations[index]['file_name']
        image = read_image(path)[..., ::-1]
        name = name_image(self.images[index]['id'], self.images[index])
        ids = read_segment_ids(str(png), image.shape[:2], name)
        height, width = self.size(index)
        if image.shape[:2] != (height, width):
            shrink = height < image.shape[0]
            how = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
            image = cv2.resize(image, (width, height), interpolation=how)
            ids = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST)
        segments = sorted(self.annotations[index]['segments_info'], key=lambda part: part['id'])
        known_labels = [self.label_of[segment['category_id']] for segment in segments]
        return Photograph(
            image,
            ids,
            np.array([segment['id'] for segment in segments], dtype=np.int32),
            np.array(known_labels, dtype=np.uint8),
        )

    def quality(self, index: int) -> int:
        """The JPEG quality of an image."""
        return jpeg_quality(self.image_folder / self.images[index]['file_name'])


def jpeg_quality(path: Path) -> int:
    """The quality at which the IJG's library would have written a JPEG with its tables."""
    with open_image(path) as image:
        table = getattr(image, 'quantization', {}).get(0)
    if table is None:
        return JPEG_QUALITY
    scale = 100 * sum(table) / _LUMINANCE_SUM
    quality = (200 - scale) / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(quality), 30, 100))


def _find_annotations(root: Path, split: str) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f'folder of photographs not found: {root.resolve()}')
    pattern = re.compile(rf'panoptic_{split}\d*\.json')
    found = sorted(p for p in root.glob('annotations/*.json') if pattern.fullmatch(p.name))
    if len(found) != 1:
        names = [path.name for path in found]
        raise FileNotFoundError(
            f'{(root / "annotations").resolve()}: expected one panoptic_{split}.json (or '
            f'panoptic_{split}2017.json), got {names}'
        )
    return found[0]
