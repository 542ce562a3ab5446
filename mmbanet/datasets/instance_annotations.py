"""COCO's instance annotations (``instances_*.json``), checked as a whole when they are read."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any, NamedTuple

from mmbanet.messages import counted

from .annotation_files import Notices, collector_paused
from .coco_file import CocoFile, check, is_id, is_integer, is_number, name_image, show, wrong
from .panoptic_annotations import PanopticAnnotations
from .segmentation import (
    Extent,
    check_segmentation,
    encode_segmentation,
    pack_polygons,
    rle_extent,
)
from .sound_columns import BLOCK, find_sound_instances

_SLACK = 1  # pixels by which a box may miss its mask, since COCO's are rounded


class Instance(NamedTuple):
    """One annotated instance.

    Attributes:
        category_id: COCO's.
        box: x1, y1, x2, y2 in pixels of the image; None where the mask has no pixel.
        segmentation: Polygons (packed, see :func:`.pack_polygons`) or RLE as the file has it, for
            :func:`~mmbanet.datasets.segmentation.encode_segmentation`.
        is_crowd: It stands for a group whose members were not told apart.
    """

    category_id: int
    box: Extent | None
    segmentation: list | dict
    is_crowd: bool


class InstanceAnnotations(CocoFile):
    """Images and their instances, checked and completed.

    The box of an instance is the file's, or that of its mask where the file has none, one with a
    side under one pixel, or another one by more than rounding. ``area`` is not used.

    Args:
        ann_file: Path or URL of the JSON file.
        backend_args: Of MMEngine's file backends.
        notices: Gets to know what is found; by default, errors are raised.

    Attributes:
        instances: A list of :class:`Instance` by the image's id, of every image.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Anything in it is not as it must be.
    """

    @collector_paused()
    def __init__(
        self, ann_file: str, backend_args: dict | None = None, notices: Notices | None = None
    ) -> None:
        annotations = self._read(
            ann_file, 'instance', backend_args, notices=notices, object_hook=pack_polygons
        )
        self.instances = {image_id: [] for image_id in self.images}
        ids, categories = set(), {category['id'] for category in self.categories}
        for start in range(0, len(annotations), BLOCK):
            block = annotations[start : start + BLOCK]
            annotations[start : start + BLOCK] = [None] * len(block)  # to be freed
            sound = find_sound_instances(block, self.images, categories, _SLACK).tolist()
            for index, (annotation, is_sound) in enumerate(zip(block, sound), start=start):
                if is_sound and annotation['id'] not in ids:
                    ids.add(annotation['id'])
                    self.instances[annotation['image_id']].append(_sound_instance(annotation))
                    continue
                with self.notices.apart('instance'):
                    self._add(annotation, index, ids, categories)

    def check_matches(self, panoptic: PanopticAnnotations) -> None:
        """Raises a ValueError unless panoptic annotations are of the same images and things."""
        mine = {c['id']: f'"{c["name"]}"' for c in self.categories}
        things = {c['id']: f'"{c["name"]}"' for c in panoptic.categories if c['isthing']}
        for category_id in [*things, *mine]:
            here, there = (part.get(category_id, 'missing') for part in (mine, things))
            with self.notices.apart('category'):
                check(
                    here == there,
                    f'{self.ann_file}: its categories must be the things of {panoptic.ann_file}, '
                    f'with the same ids and names; category {category_id} is {here} here, {there} '
                    'there',
                )
        for file, other in ((self, panoptic), (panoptic, self)):
            missing = [image_id for image_id in other.images if image_id not in file.images]
            with self.notices.apart('image'):
                if missing:
                    raise ValueError(
                        f'{file.ann_file} lacks {counted(len(missing), "image")} of '
                        f'{other.ann_file}, first '
                        f'{name_image(missing[0], other.images[missing[0]])}. Both must list '
                        'the same images, also those without things'
                    )
        for image_id in filter(panoptic.images.__contains__, self.images):
            here, there = (
                (file.images[image_id]['height'], file.images[image_id]['width'])
                for file in (self, panoptic)
            )
            names = [file.images[image_id]['file_name'] for file in (self, panoptic)]
            with self.notices.apart('image'):
                if names[0] != names[1] and PurePath(names[0]).stem != PurePath(names[1]).stem:
                    raise ValueError(
                        f'{self.where(image_id)}: in {panoptic.ann_file}, the image of this id is '
                        f'{PurePath(names[1]).stem}; both files must number the images alike'
                    )
                if here != there:
                    raise ValueError(
                        f'{self.where(image_id)}: its height and width are {here} here, {there} in '
                        f'{panoptic.ann_file}'
                    )

    def say_hidden(self) -> None:
        """Says how many instances have no pixel, which training leaves out."""
        hidden = [i for i, part in self.instances.items() for instance in part if not instance.box]
        if hidden:
            self.notices.say(
                'hidden',
                f'{self.ann_file}: left out without a pixel: {counted(len(hidden), "instance")}; '
                f'the first is in {name_image(hidden[0], self.images[hidden[0]])}',
            )

    def _add(self, annotation: Any, index: int, ids: set[int], categories: set[int]) -> None:
        """Checks one of the file's annotations and keeps it, and its id in ``ids``."""
        place = f'{self.ann_file}: entry {index} of "annotations"'
        if not isinstance(annotation, dict):
            raise ValueError(f'{place}: expected an object, got {annotation!r:.60}')
        if 'segments_info' in annotation:
            raise ValueError(
                f'{place}: no COCO instance annotation: it has "segments_info" (instances and '
                'panoptic annotations are different files; the metrics need seg_prefix, too, for '
                'panoptic ones)'
            )
        annotation_id, image_id = annotation.get('id'), annotation.get('image_id')
        if not is_integer(annotation_id):
            raise ValueError(wrong(place, annotation, 'id', 'an integer'))
        place = f'{self.ann_file}: annotation {annotation_id}'
        if annotation_id in ids:
            raise ValueError(f'{place}: two annotations have this id')
        if not is_id(image_id) or image_id not in self.images:
            raise ValueError(
                f'{place}: its image_id {show(annotation, "image_id")} is not in "images"; list '
                'the image, or correct image_id (a number and a text are never the same)'
            )
        ids.add(annotation_id)
        image = self.images[image_id]
        place = f'{self.where(image_id)}, annotation {annotation_id}'
        try:
            instance = _parse(annotation, categories, image['height'], image['width'])
        except ValueError as error:
            raise ValueError(
                f'{place}: {error}; correct the annotation, or take it out of the file'
            ) from None
        box = annotation.get('bbox')
        if instance.box and box and min(box[2:]) >= 1 and instance.box != _corners(box):
            self.notices.say(
                'box of another mask',
                f'{place}: its bbox (x, y, width, height) is {box}, but that of its mask (x1, y1, '
                f'x2, y2), which is used, is {instance.box}',
            )
        self.instances[image_id].append(instance)


def _sound_instance(annotation: dict) -> Instance:
    return Instance(
        annotation['category_id'],
        _corners(annotation['bbox']),
        annotation['segmentation'],
        bool(annotation['iscrowd']),
    )


def _parse(annotation: dict, categories: set[int], height: int, width: int) -> Instance:
    category_id, is_crowd = annotation.get('category_id'), annotation.get('iscrowd', 0)
    if not is_integer(category_id) or category_id not in categories:
        raise ValueError(
            f'category_id {show(annotation, "category_id")} is not in the categories of the file'
        )
    if is_crowd not in (0, 1):
        raise ValueError(f'"iscrowd" must be 0 or 1, got {show(annotation, "iscrowd")}')
    if 'segmentation' not in annotation:
        raise ValueError('it has no "segmentation", but masks are needed')
    segmentation = annotation['segmentation']
    extent = check_segmentation(segmentation, height, width)
    box = annotation.get('bbox')
    if box is not None:
        box = _checked_box(box, extent, height, width)
    if (
        box is None
        or min(box[2] - box[0], box[3] - box[1]) < 1
        or not _agree(box, extent, height, width)
    ):
        box = rle_extent(encode_segmentation(segmentation, height, width))
    return Instance(category_id, box, segmentation, bool(is_crowd))


def _checked_box(box: Any, extent: Extent | None, height: int, width: int) -> Extent:
    """x1, y1, x2, y2 of COCO's x, y, width, height.

    Raises:
        ValueError: It is no box, or one in which the image or the mask has no part.
    """
    is_box = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    if not is_box or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise ValueError(
            '"bbox" must be four finite numbers, x, y, width and height, neither of these '
            f'negative, got {box!r:.60}; leave it out to have it computed'
        )
    found, (w, h) = _corners(box), box[2:]
    if not _touch(found, (0, 0, width, height)):
        raise ValueError(f'"bbox" {box} lies outside of the image of {width}x{height} pixels')
    if extent is None and min(w, h) >= 1:
        raise ValueError(f'"bbox" is {box}, but the mask has no pixel')
    if extent is not None and not _touch(found, extent):
        raise ValueError(f'"bbox" {box} lies apart from the mask, x1, y1, x2, y2 = {extent}')
    return found


def _corners(box: list[float]) -> Extent:
    """x1, y1, x2, y2 of x, y, width and height."""
    x, y, width, height = box
    return x, y, x + width, y + height


def _agree(one: Extent, other: Extent, height: int, width: int) -> bool:
    """Whether two boxes are the same within the image, but for rounding."""
    sides = zip(one, other, (width, height) * 2)
    return all(abs(min(max(a, 0), n) - min(max(b, 0), n)) <= _SLACK for a, b, n in sides)


def _touch(one: Extent, other: Extent) -> bool:
    """Whether two boxes, or their rims, share a point."""
    return (
        one[0] <= other[2] + _SLACK
        and other[0] <= one[2] + _SLACK
        and one[1] <= other[3] + _SLACK
        and other[1] <= one[3] + _SLACK
    )
