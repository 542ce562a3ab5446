"""What is wrong with one image of a panoptic data set, its PNG and its annotation."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .annotation_files import read_segment_ids
from .coco_file import name_image
from .file_check import check_image_file, say_outside
from .findings import Finding, Findings
from .panoptic_annotations import PanopticAnnotations, check_png_ids, compare_area, settle_box
from .panoptic_files import segment_info


@dataclass
class Statistics:
    """What a part of a data set holds.

    Attributes:
        images: Annotated ones that could be read.
        segments: By the name of the class; crowds, too.
        images_of: Number of images by the name of the class.
        crowds: Number of segments.
        pixels: Of all PNGs.
        void_pixels: Those of no listed segment.
        thing_sizes: (width, height, width and height of the image) of each thing but crowds.
    """

    images: int = 0
    segments: Counter = field(default_factory=Counter)
    images_of: Counter = field(default_factory=Counter)
    crowds: int = 0
    pixels: int = 0
    void_pixels: int = 0
    thing_sizes: list[tuple[float, float, int, int]] = field(default_factory=list)

    def __iadd__(self, other: Statistics) -> Statistics:
        """Adds those of other images."""
        for key, value in vars(other).items():
            setattr(self, key, operator.iadd(getattr(self, key), value))
        return self


def check_image(
    file: PanopticAnnotations, image_id: int | str, images: Path, pngs: Path
) -> tuple[Statistics, list[Finding]]:
    """What an image holds, and what is found in it.

    Args:
        file: Its annotations.
        image_id: Which one it is.
        images: Folder of the images.
        pngs: Folder of the PNGs.
    """
    findings = Findings()
    image, annotation = file.images[image_id], file.annotations.get(image_id)
    size, name = (image['height'], image['width']), name_image(image_id, image)
    with findings.apart('photograph'):
        path = str(images / image['file_name'])
        say_outside(path, str(images), findings)
        check_image_file(path, size, name, True, findings)
    ids = None
    if annotation is not None:
        with findings.apart('PNG'):
            path = str(pngs / annotation['file_name'])
            say_outside(path, str(pngs), findings)
            ids = read_segment_ids(path, size, name)
    if ids is None:
        return Statistics(), findings.found
    segments, there = annotation['segments_info'], np.unique(ids).tolist()
    listed = {segment['id'] for segment in segments}
    unlisted = [segment_id for segment_id in there if segment_id and segment_id not in listed]
    if image_id in file.incomplete:
        unlisted = []  # they may well be, by segments that are refused
    with findings.apart('PNG'):
        missing = sorted(listed - {*there})
        check_png_ids(f'{path}: {name}', len(listed), missing, unlisted, findings)
    found = {i: segment_info(i, 0, ids == i) for i in there if i in listed}
    _compare(file, image_id, segments, found, findings)
    _check_content(file, image_id, segments, findings)
    return _count(file, image, ids, segments, found), findings.found


def _count(
    file: PanopticAnnotations, image: dict, ids: np.ndarray, segments: list[dict], found: dict
) -> Statistics:
    """The statistics of one image."""
    names = {category['id']: category['name'] for category in file.categories}
    things = {category['id'] for category in file.categories if category['isthing']}
    listed = [s for s in segments if s['id'] in found]
    counts = Counter(names[s['category_id']] for s in segments)
    return Statistics(
        images=1,
        segments=counts,
        images_of=Counter(counts.keys()),
        crowds=sum(s['iscrowd'] for s in segments),
        pixels=ids.size,
        void_pixels=ids.size - sum(found[s['id']]['area'] for s in listed),
        thing_sizes=[
            (*found[s['id']]['bbox'][2:], image['width'], image['height'])
            for s in listed
            if s['category_id'] in things and not s['iscrowd']
        ],
    )


def _compare(
    file: PanopticAnnotations,
    image_id: int | str,
    segments: list[dict],
    found: dict[int, dict],
    findings: Findings,
) -> None:
    """Areas and boxes of the file against those of the PNG."""
    for segment in segments:
        if segment['id'] not in found:
            continue
        true, place = found[segment['id']], file.where(image_id, segment['id'])
        if segment['area'] is not None:
            compare_area(place, segment['area'], true['area'], findings)
        if segment['bbox'] is not None:
            given, box = ([x, y, x + w, y + h] for x, y, w, h in (segment['bbox'], true['bbox']))
            settle_box(place, given, box, findings)


def _check_content(
    file: PanopticAnnotations, image_id: int | str, segments: list[dict], findings: Findings
) -> None:
    """Segments that mean nothing to anyone."""
    if not segments:
        findings.say('empty', f'{file.where(image_id)}: annotated, but without a segment')
    stuff = {c['id']: c['name'] for c in file.categories if not c['isthing']}
    of_stuff = [segment for segment in segments if segment['category_id'] in stuff]
    for category_id, count in Counter(s['category_id'] for s in of_stuff).items():
        if count > 1:
            findings.say(
                'stuff twice',
                f'{file.where(image_id)}: {count} segments are "{stuff[category_id]}"; stuff is '
                'predicted as one segment, which can match one of them at most',
            )
    for segment in of_stuff:
        if segment['iscrowd']:
            findings.say(
                'crowd',
                f'{file.where(image_id, segment["id"])}: stuff ("{stuff[segment["category_id"]]}") '
                'as a crowd: PQ does not count it',
            )
