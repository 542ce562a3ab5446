"""COCO's panoptic annotations: the JSON file, checked as a whole when it is read.

The only place that knows the format. Data sets, transforms, metrics and tools work with what has
been checked here, and take the PNGs through :func:`.annotation_files.read_segment_ids`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from mmbanet.messages import counted
from mmbanet.structures import class_color

from .annotation_files import Notices, collector_paused
from .coco_file import (
    CocoFile,
    check,
    check_file_name,
    is_id,
    is_integer,
    is_number,
    name_image,
    show,
    wrong,
)
from .sound_columns import BLOCK, are_sound_segments

MAX_ID = 2**24 - 1  # a segment's id is a colour of 24 bits; 0 is void


class PanopticAnnotations(CocoFile):
    """Images and their segments in COCO's own dictionaries, checked and completed.

    Of every segment, ``id``, ``category_id`` and ``iscrowd`` (0 or 1) are right; ``area`` and
    ``bbox`` are None where the file has none or an impossible one: they are those of the PNG then.
    What the format does not know (``amodal_rle``) stays as it is.

    Args:
        ann_file: Path or URL of the JSON file.
        backend_args: Of MMEngine's file backends.
        may_be_unannotated: Whether the file may have no ``annotations`` at all, such as COCO's
            files of test images.
        notices: Gets to know what is found; by default, errors are raised.

    Attributes:
        annotations: Entries of ``annotations`` by the image's id.
        incomplete: Ids of images without all of their segments, since ``notices`` took the errors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Anything in it is not as it must be.
    """

    @collector_paused()
    def __init__(
        self,
        ann_file: str,
        backend_args: dict | None = None,
        may_be_unannotated: bool = False,
        notices: Notices | None = None,
    ) -> None:
        annotations = self._read(
            ann_file, 'panoptic', backend_args, may_be_unannotated, notices=notices
        )
        expected = '1 for a thing or 0 for stuff (panoptic annotations have it, instances not)'
        for category in self.categories:
            place = f'{ann_file}: category {category["id"]} ("{category["name"]}")'
            is_known = category.get('isthing') in (0, 1)
            check(is_known, wrong(place, category, 'isthing', expected))
        self._to_measure: dict[str, list[str]] = {'bbox': [], 'area': []}
        self.incomplete: set[int | str] = set()
        self.annotations = self._read_annotations(annotations)
        self._say_what_is_measured()
        if self.annotations:
            self._say_what_is_unannotated()
        else:
            check(may_be_unannotated, f'{ann_file}: none of its images is annotated')

    def is_annotated(self, image_id: int | str) -> bool:
        """Whether the file has an annotation of the image; says so once if it has none.

        Raises:
            KeyError: The file does not list the image.
        """
        if image_id not in self.images:
            raise KeyError(f'image {image_id} is not in {self.ann_file}')
        if image_id not in self.annotations:
            self.notices.say(
                'unannotated', f'{self.where(image_id)}: not annotated, left out of the evaluation'
            )
        return image_id in self.annotations

    @property
    def palette(self) -> list[tuple[int, int, int]] | None:
        """RGB of each category, by its ``color``; None where one has none."""
        colors = [category.get('color') for category in self.categories]
        has_colors = all(
            isinstance(c, list) and len(c) == 3 and all(is_integer(v) and 0 <= v < 256 for v in c)
            for c in colors
        )
        return [tuple(color) for color in colors] if has_colors else None

    @property
    def metainfo(self) -> dict:
        """Of a data set with the file's categories: its classes, things first, and colours."""
        colors = self.palette or map(class_color, range(len(self.categories)))
        of_kind = {1: [], 0: []}
        for category, color in zip(self.categories, colors):
            of_kind[category['isthing']].append((category['name'], tuple(color)))
        things, stuff = ([name for name, _ in of_kind[kind]] for kind in (1, 0))
        palette = [color for kind in (1, 0) for _, color in of_kind[kind]]
        return dict(
            classes=[*things, *stuff], thing_classes=things, stuff_classes=stuff, palette=palette
        )

    def labels(self, metainfo: dict | None) -> dict[int, int]:
        """The labels of the categories, by their ids.

        A label is the position of the category's name in the data set's ``classes``; without these,
        in the file.

        Args:
            metainfo: Of the data set; ``thing_classes``, where given, must be the file's things.

        Raises:
            ValueError: The file has other categories, or a class is a thing here and stuff there.
        """
        metainfo = metainfo or {}
        names = [category['name'] for category in self.categories]
        classes = list(metainfo.get('classes') or names)
        missing = [name for name in classes if name not in set(names)]
        unknown = [name for name in names if name not in set(classes)]
        check(
            not missing and not unknown and len(classes) == len(names),
            f'{self.ann_file}: its categories must be the {len(classes)} classes of the data set, '
            f'missing: {missing}, unknown: {unknown}; correct the file, or classes, thing_classes '
            "and stuff_classes of the data set's metainfo",
        )
        things = metainfo.get('thing_classes')
        for category in self.categories if things is not None else ():
            of_file, of_set = (
                'a thing' if is_thing else 'stuff'
                for is_thing in (category['isthing'], category['name'] in things)
            )
            check(
                of_file == of_set,
                f'{self.ann_file}: category "{category["name"]}" is {of_file} by its isthing, but '
                f"{of_set} by the data set's metainfo",
            )
        return {category['id']: classes.index(category['name']) for category in self.categories}

    def _read_annotations(self, annotations: list) -> dict[int | str, dict]:
        found = {}
        categories = {category['id'] for category in self.categories}
        are_sound = False
        for index, annotation in enumerate(annotations):
            if index % BLOCK == 0:
                block = annotations[index : index + BLOCK]
                are_sound = are_sound_segments(block, categories, MAX_ID)
            with self.notices.apart('annotation'):
                image_id = self._check_annotation(annotation, index)
                if image_id in found:
                    raise ValueError(f'{self.where(image_id)}: two annotations are of this image')
                if are_sound:
                    found[image_id] = annotation
                    continue
                seen, segments = set(), []
                for number, segment in enumerate(annotation['segments_info']):
                    with self.notices.apart('segment'):
                        self._check_segment(image_id, segment, number, categories, seen)
                        segments.append(segment)
                if len(segments) < len(annotation['segments_info']):
                    self.incomplete.add(image_id)
                annotation['segments_info'] = segments
                found[image_id] = annotation
        return found

    def _check_annotation(self, annotation: Any, index: int) -> int | str:
        """The id of its image."""
        place = f'{self.ann_file}: entry {index} of "annotations"'
        if not isinstance(annotation, dict):
            raise ValueError(f'{place}: expected an object')
        image_id = annotation.get('image_id')
        if not is_id(image_id):
            raise ValueError(wrong(place, annotation, 'image_id', "an image's id"))
        if image_id not in self.images:
            raise ValueError(
                f'{place}: its image_id {image_id!r} is not in "images"; list the image, or '
                'correct image_id (a number and a text are never the same)'
            )
        place = self.where(image_id)
        if not isinstance(annotation.get('segments_info'), list):
            raise ValueError(
                f'{place}: no COCO panoptic annotation: "segments_info" must be a list, got '
                f'{show(annotation, "segments_info")} (instances and panoptic annotations are '
                'different files)'
            )
        check_file_name(f'{place}: its annotation', annotation)
        return image_id

    def _check_segment(
        self,
        image_id: int | str,
        segment: Any,
        index: int,
        categories: Collection[int],
        seen: set[int],
    ) -> None:
        """Checks and completes one, and keeps its id."""
        if not isinstance(segment, dict):
            raise ValueError(f'{self.where(image_id)}: segment {index} of its list is no object')
        segment_id = segment.get('id')
        if not is_integer(segment_id) or not 0 < segment_id <= MAX_ID:
            raise ValueError(
                f'{self.where(image_id)}: segment {index} of its list: "id" must be an integer '
                f'from 1 to {MAX_ID} (0 is void), got {show(segment, "id")}; number the '
                'segments anew, in the PNG as well'
            )
        problem = _problem_of(segment, categories)
        if segment_id in seen:
            problem = 'two segments of this image have this id'
        if problem:
            raise ValueError(f'{self.where(image_id, segment_id)}: {problem}')
        seen.add(segment_id)
        segment.setdefault('iscrowd', 0)
        for key, is_possible in (('area', _is_area), ('bbox', _is_box)):
            if segment.get(key) is None or not is_possible(segment[key]):
                image = name_image(image_id, self.images[image_id])
                self._to_measure[key].append(f'{image}, segment {segment_id}')
                segment[key] = None

    def _say_what_is_measured(self) -> None:
        for key, places in self._to_measure.items():
            if places:
                self.notices.say(
                    key,
                    f'{self.ann_file}: {counted(len(places), "segment")} without a usable '
                    f'"{key}", which is computed from the PNGs; the first is {places[0]}',
                )

    def _say_what_is_unannotated(self) -> None:
        missing = [image_id for image_id in self.images if image_id not in self.annotations]
        if missing:
            self.notices.say(
                'unannotated',
                f'{self.ann_file}: left out, not annotated: {len(missing)} of '
                f'{counted(len(self.images), "image")}; the first is '
                f'{name_image(missing[0], self.images[missing[0]])}',
            )


def check_png_ids(
    where: str, listed: int, missing: list[int], unlisted: list[int], notices: Notices
) -> None:
    """Compares the ids in a PNG with the listed ones.

    Args:
        where: Place of the error.
        listed: Number of listed segments.
        missing: Ids of those that are not in the PNG.
        unlisted: Ids in the PNG that are not listed, without 0.
        notices: Says where the two differ in part, which is no error: COCO's own tools go on, too.

    Raises:
        ValueError: The PNG cannot be that of the annotation.
    """
    if unlisted and 2 * len(missing) > listed:
        raise ValueError(
            f'{where}: {len(missing)} of its {listed} segments are not in the PNG, which has ids '
            f'that are not listed, such as {unlisted[0]}: it is the PNG of another image, or its '
            'ids are not written as R + 256 G + 256² B'
        )
    if missing:
        notices.say(
            'missing',
            f'{where}: the listed segments {missing[:9]} are not in the PNG: not trained on, and '
            'missed in evaluation',
        )
    if unlisted:
        notices.say(
            'unlisted',
            f'{where}: the ids {unlisted[:9]} of the PNG are not listed: their pixels are not '
            'trained on, and belong to no segment in evaluation',
        )


def settle_box(
    where: str, given: list[float] | None, found: list[int], notices: Notices
) -> list[float]:
    """The PNG's box where the file has none or another one, by more than rounding.

    Args:
        where: Place of the segment.
        given: x1, y1, x2, y2 of the file.
        found: Of the PNG.
        notices: Says where the two differ.
    """
    if given is None:
        return found
    if max(abs(a - b) for a, b in zip(given, found)) <= 1:
        return given
    notices.say(
        'other bbox',
        f'{where}: its bbox (x1, y1, x2, y2) is {given} in the annotation file, {found} in the '
        'PNG, which is used',
    )
    return found


def compare_area(where: str, given: float, found: int, notices: Notices) -> None:
    """Says where a segment's area is another one in the file than in the PNG."""
    if given != found:
        notices.say(
            'other area',
            f'{where}: its area is {given:g} in the annotation file, {found} pixels in the PNG; PQ '
            "takes the file's, as panopticapi does",
        )


def _problem_of(segment: dict, categories: Collection[int]) -> str | None:
    """What cannot be mended in a segment."""
    category_id = segment.get('category_id')
    if not is_integer(category_id) or category_id not in categories:
        shown = show(segment, 'category_id')
        return f'category_id {shown} is not in the categories of the file'
    if segment.get('iscrowd', 0) not in (0, 1):
        return f'"iscrowd" must be 0 or 1, got {show(segment, "iscrowd")}'
    area, box = segment.get('area'), segment.get('bbox')
    if area is not None and not is_number(area):
        return f'"area" must be a number, got {area!r:.60}; leave it out to have it computed'
    is_box = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    if box is not None and not is_box:
        return (
            f'"bbox" must be four numbers, x, y, width and height, got {box!r:.60}; leave it out '
            'to have it computed'
        )
    return None


def _is_area(area: float) -> bool:
    return 0 < area < math.inf


def _is_box(box: list[float]) -> bool:
    return all(-math.inf < value < math.inf for value in box) and box[2] > 0 and box[3] > 0
