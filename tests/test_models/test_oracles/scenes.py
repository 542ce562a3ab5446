"""Annotated images of rectangles: overlapping ones of known depth, and one in files."""

import json

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from PIL import Image

from mmbanet.scenes.drawn.classes import CATEGORIES

SIZE = (128, 192)  # of the original image; the network sees half of it
SKY, GROUND = 8, 12
# top, bottom, left, right; each overlaps the next, and keeps more than half of its area behind it.
RECTANGLES = [(10, 60, 20, 70), (30, 80, 50, 110), (50, 100, 90, 150)]
LABELS = [2, 5, 2]
# Segments of an image of 32 x 64: id, category, (top, bottom, left, right), crowd or not.
SEGMENTS = [
    (11, 'wall', (0, 16, 0, 64), 0),
    (12, 'ball', (16, 32, 0, 20), 1),
    (13, 'bus', (16, 30, 20, 40), 0),
    (14, 'figure', (4, 20, 44, 52), 0),
]


def full_masks() -> torch.Tensor:
    """(3, H, W) bool."""
    masks = torch.zeros(len(RECTANGLES), *SIZE, dtype=torch.bool)
    for mask, (top, bottom, left, right) in zip(masks, RECTANGLES):
        mask[top:bottom, left:right] = True
    return masks


def visible_masks(front_to_back) -> torch.Tensor:
    """(3, H, W) bool, no two overlap."""
    visible, taken = full_masks(), torch.zeros(SIZE, dtype=torch.bool)
    for k in front_to_back:
        visible[k] &= ~taken
        taken |= visible[k]
    return visible


def make_sample(front_to_back=(0, 1, 2), things=(0, 1, 2), scale=(0.5, 0.5)) -> DetDataSample:
    """The rectangles on sky and ground, one column of pixels without annotation."""
    visible = visible_masks(front_to_back)[list(things)]
    labels = torch.tensor(LABELS)[list(things)]
    semantics = torch.full(SIZE, SKY, dtype=torch.int64)
    semantics[64:] = GROUND
    semantics[:, -1] = 255
    boxes = torch.zeros(len(things), 4)
    for k, (mask, label) in enumerate(zip(visible, labels)):
        semantics[mask] = label
        rows, cols = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        boxes[k] = torch.tensor([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1])

    width, height = int(SIZE[1] * scale[0]), int(SIZE[0] * scale[1])
    sample = DetDataSample(
        metainfo=dict(
            img_id=7,
            img_path='7.jpg',
            ori_shape=SIZE,
            img_shape=(height, width),
            batch_input_shape=(height, width),
            scale_factor=scale,
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=boxes, labels=labels, masks=BitmapMasks(visible.numpy().astype(np.uint8), *SIZE)
    )
    sample.gt_sem_seg = PixelData(sem_seg=semantics[None])
    return sample


def write_dataset(root) -> None:
    """The segments above, as a validation set of one image in the layout of generated scenes."""
    segment_map = np.zeros((32, 64), dtype=np.uint8)
    category_ids = {category['name']: category['id'] for category in CATEGORIES}
    entries = []
    for number, name, (top, bottom, left, right), crowd in SEGMENTS:
        segment_map[top:bottom, left:right] = number
        box = [left, top, right - left, bottom - top]
        entries.append(dict(id=number, category_id=category_ids[name], bbox=box, iscrowd=crowd))
    for entry in entries:
        entry['area'] = int((segment_map == entry['id']).sum())
    png = np.stack([segment_map, 0 * segment_map, 0 * segment_map], axis=-1)
    for folder in ('val', 'annotations/panoptic_val'):
        (root / folder).mkdir(parents=True)
    Image.fromarray(png).save(root / 'val' / 'a.jpg')
    Image.fromarray(png).save(root / 'annotations' / 'panoptic_val' / 'a.png')
    content = dict(
        images=[dict(id=1, file_name='a.jpg', height=32, width=64)],
        annotations=[dict(image_id=1, file_name='a.png', segments_info=entries)],
        categories=CATEGORIES,
    )
    (root / 'annotations' / 'panoptic_val.json').write_text(json.dumps(content))
