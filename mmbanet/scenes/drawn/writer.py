"""From a scene to files: its entries of COCO's panoptic and instances JSON, its PNG and JPG."""

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
from .classes import CATEGORY_BY_NAME, SMALL_THINGS, THINGS
from .scene import Scene

_JPEG_QUALITY = 95


def encode_scene(scene: Scene, image_id: int) -> tuple[Entries, np.ndarray]:
    """COCO's form of a scene: its entries and the map of segment ids (H, W) int64.

    Instance masks are those that COCO's annotators draw: what is visible of a thing, and what the
    visible parts of small things hide of it (a figure's mask includes the tie on it).
    """
    owner = scene.owner
    categories = [CATEGORY_BY_NAME[layer.name] for layer in scene.layers]
    ids = np.array(distinct_ids([category['color'] for category in categories]))
    small_things = np.isin(owner, [i for i, x in enumerate(scene.layers) if x.name in SMALL_THINGS])
    segments, instances = [], []
    for i, (layer, category) in enumerate(zip(scene.layers, categories)):
        visible = owner == i
        info = segment_info(ids[i], category['id'], visible)
        segments.append(info | {'amodal_rle': encode_rle(layer.mask)})
        if layer.name in THINGS:
            mask = visible | (layer.mask & small_things)
            info = segment_info(ids[i], category['id'], mask)
            del info['id']
            instances.append({'image_id': image_id, **info, 'segmentation': encode_rle(mask)})
    height, width = owner.shape
    stem = f'{image_id:012d}'
    image = {'id': image_id, 'file_name': f'{stem}.jpg', 'height': height, 'width': width}
    annotation = {
        'image_id': image_id,
        'file_name': f'{stem}.png',
        'segments_info': segments,
        'depth_order': [segment['id'] for segment in segments],
    }
    return Entries(image, annotation, instances), ids[owner]


def write_scene(scene: Scene, image_id: int, root: Path, split: str) -> Entries:
    """Writes the JPG and the PNG of a scene; returns its entries of the JSON files."""
    entries, segment_map = encode_scene(scene, image_id)
    options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    write_image(root / split / entries.image['file_name'], scene.image, options)
    folder = root / 'annotations' / f'panoptic_{split}'
    write_segment_map(folder / entries.panoptic['file_name'], segment_map)
    return entries
