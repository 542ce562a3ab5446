"""From a scene to files: its entries of COCO's panoptic and instances JSON, its PNG and JPG."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .classes import CATEGORY_BY_NAME, SMALL_THINGS, THINGS
from .scene import Scene

_JPEG_QUALITY = 95


class Entries(NamedTuple):
    """What the JSON files of a split say of an image.

    Attributes:
        image (dict): Of ``images``, in both files.
        panoptic (dict): Of the panoptic file's ``annotations``.
        instances (list[dict]): Of the instances file's ``annotations``, still without ``id``.
    """

    image: dict
    panoptic: dict
    instances: list[dict]


def encode_scene(scene: Scene, image_id: int) -> tuple[Entries, np.ndarray]:
    """COCO's form of a scene: its entries and the map of segment ids (H, W) int64.

    Instance masks are those that COCO's annotators draw: what is visible of a thing, and what the
    visible parts of small things hide of it (a figure's mask includes the tie on it).
    """
    owner = scene.owner
    ids = np.array(_segment_ids([layer.name for layer in scene.layers]))
    small_things = np.isin(owner, [i for i, x in enumerate(scene.layers) if x.name in SMALL_THINGS])
    segments, instances = [], []
    for i, layer in enumerate(scene.layers):
        visible = owner == i
        category_id = CATEGORY_BY_NAME[layer.name]['id']
        segments.append(
            {
                'id': int(ids[i]),
                'category_id': category_id,
                **_extent(visible),
                'iscrowd': 0,
                'amodal_rle': _rle(layer.mask),
            }
        )
        if layer.name in THINGS:
            mask = visible | (layer.mask & small_things)
            instances.append(
                {
                    'image_id': image_id,
                    'category_id': category_id,
                    **_extent(mask),
                    'iscrowd': 0,
                    'segmentation': _rle(mask),
                }
            )
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
    # OpenCV writes BGR, and the format asks for id = R + 256 G + 256^2 B.
    png = np.stack([segment_map >> 16, segment_map >> 8 & 255, segment_map & 255], axis=-1)
    jpg = scene.image[..., ::-1]
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _write_image(root / split / entries.image['file_name'], jpg, options)
    folder = root / 'annotations' / f'panoptic_{split}'
    _write_image(folder / entries.panoptic['file_name'], png.astype(np.uint8), [])
    return entries


def _segment_ids(names: list[str]) -> list[int]:
    """Unique ids near the category's colour, so that the PNG can be looked at."""
    ids = []
    for name in names:
        r, g, b = CATEGORY_BY_NAME[name]['color']
        while r + 256 * g + 65536 * b in ids:
            # Large steps keep two things of one class apart for the eye.
            r, g, b = (r + 29) % 256, (g + 47) % 256, (b + 13) % 256
        ids.append(r + 256 * g + 65536 * b)
    return ids


def _extent(mask: np.ndarray) -> dict:
    """``area`` and ``bbox`` of a mask (H, W) bool that is not empty."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(cols[0]), int(rows[0])
    return {
        'area': int(mask.sum()),
        'bbox': [x, y, int(cols[-1]) + 1 - x, int(rows[-1]) + 1 - y],
    }


def _rle(mask: np.ndarray) -> dict:
    """COCO's compressed RLE, as JSON can hold it."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def _write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    # Encoding apart from writing: cv2.imwrite hides a full disk behind a return value.
    _, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    path.write_bytes(data.tobytes())
