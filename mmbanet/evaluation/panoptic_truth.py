"""Panoptic annotations as metrics count with them, image by image."""

from __future__ import annotations

import os
import os.path as osp
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from pycocotools import mask as coco_mask

from mmbanet.datasets import PanopticAnnotations
from mmbanet.datasets.annotation_files import decode_segment_ids, is_local, read_bytes
from mmbanet.datasets.file_check import check_pngs, pngs_of, say_outside
from mmbanet.datasets.panoptic_annotations import check_png_ids, compare_area, name_image
from mmbanet.structures.matching import (
    NO_LABEL,
    UNLISTED,
    VOID,
    Runs,
    Segments,
    TrueSegments,
    count_overlaps,
    count_pixels,
    segment_iou,
)

# Metrics take turns with the images of a batch: so many are decoded only once for all of them.
DECODED = 8
_opened: WeakValueDictionary[tuple, PanopticAnnotations] = WeakValueDictionary()


def open_annotations(ann_file: str, backend_args: dict | None = None) -> PanopticAnnotations:
    """What a file holds, read once for all metrics that hold it at the same time.

    Raises: As :class:`~mmbanet.datasets.PanopticAnnotations`.
    """
    is_here = is_local(ann_file, backend_args) and osp.exists(ann_file)
    written = os.stat(ann_file).st_mtime_ns if is_here else None
    key = osp.abspath(ann_file) if is_here else ann_file, written, repr(backend_args)
    annotations = _opened.get(key)
    if annotations is None:
        annotations = _opened[key] = PanopticAnnotations(ann_file, backend_args)
    return annotations


class Comparison(NamedTuple):
    """A predicted map of an image beside its annotation.

    Attributes:
        truth: G segments, with the areas that the file lacks.
        prediction: P segments.
        overlaps: (G, P), shared pixels.
        iou: (G, P).
    """

    truth: TrueSegments
    prediction: Segments
    overlaps: np.ndarray
    iou: np.ndarray


class PanopticTruth:
    """The annotated segments of images, by the images' ids.

    Args:
        ann_file: COCO's panoptic annotations.
        seg_prefix: Folder of their PNGs.
        backend_args: Of MMEngine's file backends.

    Attributes:
        classes: Names of the C categories in the order of labels: the data set's, or
            the file's.
        is_thing: (C,) bool.

    Raises:
        FileNotFoundError: The file or the folder is missing.
        ValueError: The file is not as it must be.
    """

    def __init__(self, ann_file: str, seg_prefix: str, backend_args: dict | None = None) -> None:
        self.annotations = open_annotations(ann_file, backend_args)
        if is_local(seg_prefix, backend_args) and not osp.isdir(seg_prefix):
            raise FileNotFoundError(f'seg_prefix is no folder: {osp.abspath(seg_prefix)}')
        self.seg_prefix = seg_prefix
        self.backend_args = backend_args
        self.is_annotated = self.annotations.is_annotated
        self._labels: dict[int, int] = {}
        self.use_classes(None)

    def use_classes(self, dataset_meta: dict | None) -> None:
        """Numbers the labels as a data set does; a ValueError if it has other classes."""
        labels = self.annotations.labels(dataset_meta)
        if labels == self._labels:
            return
        self._labels = labels
        categories = sorted(self.annotations.categories, key=lambda c: labels[c['id']])
        self.classes = [category['name'] for category in categories]
        self.is_thing = np.array([bool(category['isthing']) for category in categories])
        self._segments = {
            image_id: _parse(annotation['segments_info'], labels)
            for image_id, annotation in self.annotations.annotations.items()
        }

    def check_files(self) -> None:
        """Looks at the headers and ends of all PNGs, see :func:`.check_pngs`."""
        check_pngs(
            pngs_of(self.annotations, self.seg_prefix),
            self.seg_prefix,
            self.annotations.ann_file,
            self.annotations.notices,
            self.backend_args,
        )

    def load(self, img_id: int) -> tuple[np.ndarray, TrueSegments]:
        """An annotated image's map of segment ids (H, W) int32, from the PNG, and its segments.

        Raises:
            FileNotFoundError: The PNG is missing.
            ValueError: It is not readable, or of another size than the image.
        """
        image = self.annotations.images[img_id]
        size = image['height'], image['width']
        path, name = self._png(img_id), name_image(img_id, image)
        say_outside(path, self.seg_prefix, self.annotations.notices, self.backend_args)
        content = read_bytes(path, f'PNG of {name}', self.backend_args)
        return _decode(content, path, size, name), self._segments[img_id]

    def compare(
        self, img_id: int, true_map: np.ndarray, prediction: Segments, runs: Runs
    ) -> Comparison:
        """The predicted segments of an image beside the annotated ones.

        Args:
            img_id: Of the image.
            true_map: (H, W), see :meth:`load`.
            prediction: P segments.
            runs: Of both maps.

        Raises: As :meth:`complete`.
        """
        truth = self._segments[img_id]
        overlaps = count_overlaps(truth, prediction, runs)
        truth = self.complete(img_id, true_map, truth, overlaps.sum(axis=1))
        return Comparison(truth, prediction, overlaps, segment_iou(overlaps, truth.areas, overlaps))

    @property
    def thing_labels(self) -> list[int]:
        """The labels that are annotated as instances."""
        return self.is_thing.nonzero()[0].tolist()

    def instances(self, img_id: int) -> list[dict]:
        """An image's things as pycocotools wants them, with the label as ``category_id``.

        Raises: As :meth:`load` and :meth:`complete`.
        """
        true_map, truth = self.load(img_id)
        pixels = count_pixels(truth, true_map)
        self.complete(img_id, true_map, truth, pixels)
        chosen = (np.isin(truth.labels, self.thing_labels) & (pixels > 0)).nonzero()[0]
        masks = np.asfortranarray((true_map[..., None] == truth.ids[chosen]).astype(np.uint8))
        return [
            dict(
                category_id=int(truth.labels[i]),
                segmentation=rle,
                iscrowd=int(not truth.is_countable[i]),
            )
            for i, rle in zip(chosen, coco_mask.encode(masks))
        ]

    def complete(
        self, img_id: int, true_map: np.ndarray, truth: TrueSegments, pixels: np.ndarray
    ) -> TrueSegments:
        """Compares an image's segments with the PNG, and adds the areas that the file lacks.

        Like panopticapi, it leaves the areas that the file has; where the PNG has others, this is
        said once.

        Args:
            img_id: Of the image.
            true_map: (H, W), see :meth:`load`.
            truth: G segments, see :meth:`load`.
            pixels: (G,), how many each has in the PNG.

        Raises:
            ValueError: The PNG cannot be that of the annotation.
        """
        annotations, listed = self.annotations, slice(1, -1)
        is_missing = pixels[listed] == 0
        if is_missing.any() or pixels[-1] > 0:
            ids = np.unique(true_map)
            check_png_ids(
                f'{self._png(img_id)}: {name_image(img_id, annotations.images[img_id])}',
                len(is_missing),
                truth.ids[listed][is_missing].tolist(),
                np.setdiff1d(ids, truth.ids).tolist(),
                annotations.notices,
            )
        is_lacking = np.isnan(truth.areas)
        is_other = (truth.areas != pixels)[listed] & ~is_lacking[listed] & ~is_missing
        if is_other.any():
            row = is_other.nonzero()[0][0] + 1
            place = annotations.where(img_id, truth.ids[row])
            compare_area(place, truth.areas[row], int(pixels[row]), annotations.notices)
        if is_lacking.any():
            truth = truth._replace(areas=np.where(is_lacking, pixels, truth.areas))
        return truth

    def _png(self, img_id: int) -> str:
        return osp.join(self.seg_prefix, self.annotations.annotations[img_id]['file_name'])


@lru_cache(maxsize=DECODED)
def _decode(content: bytes, path: str, size: tuple[int, int], image: str) -> np.ndarray:
    true_map = decode_segment_ids(content, path, size, image)
    true_map.setflags(write=False)
    return true_map


def _parse(segments_info: list[dict], labels: dict[int, int]) -> TrueSegments:
    """The segments; an area that the file lacks is nan."""
    segments = sorted(segments_info, key=lambda segment: segment['id'])
    row_of = {segment['id']: row for row, segment in enumerate(segments, 1)}
    crowds = [segment for segment in segments_info if segment['iscrowd']]
    areas = [np.nan if s['area'] is None else s['area'] for s in segments]
    return TrueSegments(
        ids=np.array([VOID, *row_of, UNLISTED]),
        labels=np.array([NO_LABEL, *(labels[s['category_id']] for s in segments), NO_LABEL]),
        areas=np.array([0, *areas, 0], dtype=np.float64),
        is_countable=np.array([False, *(not s['iscrowd'] for s in segments), False]),
        crowds={labels[s['category_id']]: row_of[s['id']] for s in crowds},
    )
