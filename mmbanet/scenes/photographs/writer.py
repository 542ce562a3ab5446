"""From composed scenes to files: COCO's panoptic and instance annotations, PNGs and JPGs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmbanet.datasets.panoptic_files import (
    distinct_ids,
    segment_info,
    write_image,
    write_segment_map,
)
from mmbanet.datasets.rle import encode_rle

from ..data_set import Entries
from .compose import PhotographScene

#: What the masks of ``instances_*.json`` hold.
INSTANCE_MASKS = ('visible', 'things_on_top', 'amodal')
#: A thing is a small one on another if its full mask has less than this share of the other's area.
SMALL = 0.25


def write_scene(
    scene: PhotographScene,
    image_id: int,
    root: Path,
    split: str,
    categories: list[dict],
    instance_masks: str,
) -> Entries:
    """Writes the JPG and the PNG of a scene; returns its entries of the JSON files."""
    owner = front_most([segment.mask for segment in scene.segments])
    visible = [owner == i for i in range(len(scene.segments))]
    # Stuff may be covered altogether.
    shown = [i for i, mask in enumerate(visible) if mask.any()]
    colors = [_color(categories[scene.segments[i].label]) for i in shown]
    ids = dict(zip(shown, distinct_ids(colors)))
    segment_map = np.zeros(owner.shape, dtype=np.int64)
    segments = []
    for i in shown:
        label, mask, crowd = scene.segments[i]
        segment_map[visible[i]] = ids[i]
        info = segment_info(ids[i], categories[label]['id'], visible[i])
        segments.append(info | {'iscrowd': int(crowd), 'amodal_rle': encode_rle(mask)})
    height, width = owner.shape
    stem = f'{image_id:012d}'
    image = {'id': image_id, 'file_name': f'{stem}.jpg', 'height': height, 'width': width}
    annotation = {
        'image_id': image_id,
        'file_name': f'{stem}.png',
        'segments_info': segments,
        'depth_order': [ids[i] for i in shown],
        'occluded_pairs': [[ids[i], ids[j]] for i, j in known_pairs(scene)],
    }
    options = (cv2.IMWRITE_JPEG_QUALITY, scene.quality)
    write_image(root / split / image['file_name'], scene.image, options)
    write_segment_map(root / 'annotations' / f'panoptic_{split}' / f'{stem}.png', segment_map)
    instances = _instances(scene, visible, segments, image_id, instance_masks)
    return Entries(image, annotation, instances)


def known_pairs(scene: PhotographScene) -> list[tuple[int, int]]:
    """(front, behind) of overlapping things, of which the one in front is a cut-out."""
    masks = [segment.mask for segment in scene.segments[: scene.num_things]]
    return [
        (i, j)
        for i in range(scene.num_cutouts)
        for j in range(i + 1, len(masks))
        if (masks[i] & masks[j]).any()
    ]


def front_most(masks: list[np.ndarray]) -> np.ndarray:
    """(H, W) int64: index of the first of the masks (H, W) that holds the pixel, or -1."""
    owner = np.full(masks[0].shape, -1, dtype=np.int64)
    for i in reversed(range(len(masks))):
        owner[masks[i]] = i
    return owner


def _instances(
    scene: PhotographScene,
    visible: list[np.ndarray],
    segments: list[dict],
    image_id: int,
    instance_masks: str,
) -> list[dict]:
    """Entries of ``instances_*.json``, without their ``id``."""
    things = scene.segments[: scene.num_things]
    areas = [np.count_nonzero(thing.mask) for thing in things]
    entries = []
    for i, thing in enumerate(things):
        mask = thing.mask if instance_masks == 'amodal' else visible[i]
        if instance_masks == 'things_on_top':
            small = [visible[j] for j in range(i) if areas[j] < SMALL * areas[i]]
            mask = mask | (thing.mask & np.any(small, axis=0)) if small else mask
        info = segment_info(i, segments[i]['category_id'], mask)
        del info['id']
        entries.append(info | {'image_id': image_id, 'segmentation': encode_rle(mask)})
    return entries


def _color(category: dict) -> tuple[int, int, int]:
    """The category's colour, or one made of its id."""
    r, g, b = category.get('color') or (category['id'] * k % 200 + 40 for k in (67, 113, 29))
    return r, g, b
