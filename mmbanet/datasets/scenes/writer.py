"""From scenes to files: COCO's panoptic JSON entries, PNGs and JPGs."""

from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from .classes import CATEGORIES, CATEGORY_BY_NAME
from .scene import Scene

_JPEG_QUALITY = 95


def encode_scene(scene: Scene, image_id: int) -> tuple[dict, dict, np.ndarray]:
    """COCO panoptic form of a scene.

    Returns:
        The ``images`` entry, the ``annotations`` entry and the map of segment ids (H, W) int64.
    """
    owner = scene.owner
    ids = np.array(_segment_ids([layer.name for layer in scene.layers]))
    segments = []
    for i, layer in enumerate(scene.layers):
        visible = owner == i
        rows, cols = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        x, y = int(cols[0]), int(rows[0])
        rle = coco_mask.encode(np.asfortranarray(layer.mask, dtype=np.uint8))
        segments.append(
            {
                'id': int(ids[i]),
                'category_id': CATEGORY_BY_NAME[layer.name]['id'],
                'area': int(visible.sum()),
                'bbox': [x, y, int(cols[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                'iscrowd': 0,
                'amodal_rle': {'size': rle['size'], 'counts': rle['counts'].decode('ascii')},
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
    return image, annotation, ids[owner]


def write_scene(scene: Scene, image_id: int, root: Path, split: str) -> tuple[dict, dict]:
    """Writes the JPG and the PNG of a scene; returns its ``images`` and ``annotations`` entries."""
    image, annotation, segment_map = encode_scene(scene, image_id)
    # OpenCV writes BGR, and the format asks for id = R + 256 G + 256^2 B.
    png = np.stack([segment_map >> 16, segment_map >> 8 & 255, segment_map & 255], axis=-1)
    jpg = scene.image[..., ::-1]
    _write_image(root / split / image['file_name'], jpg, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    folder = root / 'annotations' / f'panoptic_{split}'
    _write_image(folder / annotation['file_name'], png.astype(np.uint8), [])
    return image, annotation


def annotation_file(split: str, seed: int, entries: list[tuple[dict, dict]]) -> dict:
    """The whole JSON of a split."""
    return {
        'info': {'description': f'mmbanet generated scenes, {split}, seed {seed}'},
        'images': [image for image, _ in entries],
        'annotations': [annotation for _, annotation in entries],
        'categories': CATEGORIES,
    }


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


def _write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    # Encoding apart from writing: cv2.imwrite hides a full disk behind a return value.
    _, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    path.write_bytes(data.tobytes())
