"""COCO's panoptic annotations: what metrics need of the JSON file, and the PNGs one by one."""

from __future__ import annotations

import json
import os.path as osp

import cv2
import numpy as np

from .panoptic_quality import NO_LABEL, UNLISTED, VOID, TrueSegments


class PanopticAnnotations:
    """The annotated segments of images, by the images' ids.

    Labels number the categories in the file's order, as mmdet's data sets do.

    Args:
        ann_file (str): COCO's panoptic annotations.
        seg_prefix (str): Folder of their PNGs.

    Attributes:
        classes (list[str]): Names of the C categories.
        is_thing (np.ndarray): (C,) bool.

    Raises:
        FileNotFoundError: The file or the folder is missing.
        ValueError: The file is not in the panoptic format.
    """

    def __init__(self, ann_file: str, seg_prefix: str) -> None:
        if not osp.isfile(ann_file):
            raise FileNotFoundError(f'ann_file not found: {osp.abspath(ann_file)}')
        if not osp.isdir(seg_prefix):
            raise FileNotFoundError(f'seg_prefix is no folder: {osp.abspath(seg_prefix)}')
        with open(ann_file) as file:
            content = json.load(file)
        self.ann_file = ann_file
        self.seg_prefix = seg_prefix
        try:
            categories = content['categories']
            self.classes = [category['name'] for category in categories]
            self.is_thing = np.array([bool(c['isthing']) for c in categories], dtype=bool)
            labels = {category['id']: label for label, category in enumerate(categories)}
            self._images = {a['image_id']: _parse(a, labels) for a in content['annotations']}
        except KeyError as error:
            raise ValueError(
                f'{ann_file}: no COCO panoptic annotations, {error} is missing (instances and '
                'panoptic annotations are different files)'
            ) from error

    def check_classes(self, dataset_meta: dict | None) -> None:
        """Raises a ValueError if a data set has other classes than the file."""
        names = (dataset_meta or {}).get('classes', self.classes)
        if set(names) != set(self.classes):
            raise ValueError(
                f'{self.ann_file} must have the categories of the data set, missing: '
                f'{sorted(set(names) - set(self.classes))}, unknown: '
                f'{sorted(set(self.classes) - set(names))}'
            )

    def load(self, img_id: int) -> tuple[np.ndarray, TrueSegments]:
        """An image's map of segment ids (H, W) int32, read from the PNG, and its segments.

        Raises:
            KeyError: The image is not in the annotation file.
            FileNotFoundError: The PNG is missing.
            ValueError: It is not readable.
        """
        if img_id not in self._images:
            raise KeyError(f'image {img_id} is not in {self.ann_file}')
        file_name, segments = self._images[img_id]
        return _read_ids(osp.join(self.seg_prefix, file_name)), segments


def _parse(annotation: dict, labels: dict[int, int]) -> tuple[str, TrueSegments]:
    """The PNG's name and the segments."""
    listed = {segment['id']: segment for segment in annotation['segments_info']}
    for segment in listed.values():
        if segment['category_id'] not in labels:
            raise ValueError(
                f'image {annotation["image_id"]}, segment {segment["id"]}: category_id '
                f'{segment["category_id"]} is not in the categories of the annotation file'
            )
    segments = [listed[i] for i in sorted(listed)]
    row_of = {segment['id']: row for row, segment in enumerate(segments, 1)}
    crowds = [segment for segment in listed.values() if segment.get('iscrowd', 0) == 1]
    is_countable = np.array([False, *(s.get('iscrowd', 0) != 1 for s in segments), False])
    return annotation['file_name'], TrueSegments(
        ids=np.array([VOID, *row_of, UNLISTED]),
        labels=np.array([NO_LABEL, *(labels[s['category_id']] for s in segments), NO_LABEL]),
        areas=np.array([0, *(s['area'] for s in segments), 0], dtype=np.float64),
        is_countable=is_countable,
        crowds={labels[s['category_id']]: row_of[s['id']] for s in crowds},
    )


def _read_ids(path: str) -> np.ndarray:
    """(H, W) int32: the segment ids R + 256 G + 256² B of a PNG."""
    if not osp.isfile(path):
        raise FileNotFoundError(f'PNG not found: {osp.abspath(path)}')
    with open(path, 'rb') as file:
        bgr = cv2.imdecode(np.frombuffer(file.read(), dtype=np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f'not readable as a PNG: {osp.abspath(path)}')
    # R, G, B, 0: the bytes of a little-endian integer. Unlike cvtColor, this starts none of
    # OpenCV's threads, which would not survive the fork of a data loader.
    rgb0 = np.zeros((*bgr.shape[:2], 4), dtype=np.uint8)
    cv2.mixChannels([bgr], [rgb0], [0, 2, 1, 1, 2, 0])
    return rgb0.view('<i4')[..., 0]
