"""How much the instance masks of a data set overlap: what occlusion handling can learn from it."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask
from tqdm import tqdm

from mmbanet.messages import counted

from .annotation_files import read_segment_ids
from .coco_file import name_image
from .instance_annotations import InstanceAnnotations
from .panoptic_annotations import PanopticAnnotations
from .segmentation import encode_segmentation

#: Section 4.3 of the paper: a pair is occluded when its overlap is more than this of either mask.
OCCLUSION_THR = 0.2


@dataclass
class MaskOverlap:
    """Counts over a data set; crowds are no instances here.

    Attributes:
        images: Annotated images.
        instances: Masks with at least one pixel.
        box_pairs: Pairs of instances of one image whose masks' boxes share pixels.
        mask_pairs: Those whose masks share pixels.
        occluded_pairs: Those whose masks share more than 20% of either.
        occluded_images: Images with such a pair.
    """

    images: int = 0
    instances: int = 0
    box_pairs: int = 0
    mask_pairs: int = 0
    occluded_pairs: int = 0
    occluded_images: int = 0

    def add(self, masks: list[dict]) -> None:
        """Counts the masks of one more image, compressed RLEs."""
        masks = [mask for mask in masks if coco_mask.area(mask)]
        self.images += 1
        self.instances += len(masks)
        if len(masks) < 2:
            return
        boxes = _shares(np.stack([coco_mask.toBbox(mask) for mask in masks]))
        self.box_pairs += int((boxes > 0).sum())
        if not boxes.any():
            return
        shares = _shares(masks)
        occluded = int((shares > OCCLUSION_THR).sum())
        self.mask_pairs += int((shares > 0).sum())
        self.occluded_pairs += occluded
        self.occluded_images += occluded > 0

    def table(self) -> str:
        """The counts, those of pairs also by image."""
        lines = [
            f'{counted(self.images, "image")}, {counted(self.instances, "instance")}, '
            'crowds left out',
            '',
        ]
        lines.append(f'{"pairs of one image":<34}{"pairs":>10}{"per image":>11}')
        for what, pairs in (
            ('boxes overlap', self.box_pairs),
            ('masks overlap', self.mask_pairs),
            (f'by more than {OCCLUSION_THR:.0%} of either mask', self.occluded_pairs),
        ):
            lines.append(f'{what:<34}{pairs:>10}{pairs / max(self.images, 1):>11.2f}')
        share = self.occluded_pairs / max(self.mask_pairs, 1)
        lines += [
            '',
            f'{share:.1%} of the pairs whose masks overlap do so by more than {OCCLUSION_THR:.0%}; '
            f'{self.occluded_images / max(self.images, 1):.1%} of the images have such a pair',
        ]
        return '\n'.join(lines)


def measure_overlap(ann_file: str, seg_prefix: str | None = None) -> MaskOverlap:
    """Counts the pairs of overlapping masks of a data set.

    Args:
        ann_file: COCO's instance annotations; with ``seg_prefix``, its panoptic annotations, whose
            masks never overlap.
        seg_prefix: Folder of the PNGs of panoptic annotations.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is in another format, or not as it must be.
    """
    counts = MaskOverlap()
    masks = _instance_masks(ann_file) if seg_prefix is None else _thing_masks(ann_file, seg_prefix)
    for masks_of_image in masks:
        counts.add(masks_of_image)
    return counts


def _instance_masks(ann_file: str) -> Iterator[list[dict]]:
    file = InstanceAnnotations(ann_file)
    for image_id, instances in _progress(file.instances.items()):
        size = file.images[image_id]['height'], file.images[image_id]['width']
        yield [encode_segmentation(i.segmentation, *size) for i in instances if not i.is_crowd]


def _thing_masks(ann_file: str, seg_prefix: str) -> Iterator[list[dict]]:
    file = PanopticAnnotations(ann_file)
    things = {category['id'] for category in file.categories if category['isthing']}
    for image_id, annotation in _progress(file.annotations.items()):
        image = file.images[image_id]
        path = osp.join(seg_prefix, annotation['file_name'])
        size = image['height'], image['width']
        ids = read_segment_ids(path, size, name_image(image_id, image))
        yield [
            coco_mask.encode(np.asfortranarray(ids == segment['id'], dtype=np.uint8))
            for segment in annotation['segments_info']
            if segment['category_id'] in things and not segment['iscrowd']
        ]


def _progress(items: Iterable) -> Iterable:
    return tqdm(items, unit='image', leave=False, disable=None)


def _shares(masks: list[dict] | np.ndarray) -> np.ndarray:
    """(P,) of every pair: the intersection as a share of the smaller mask.

    Args:
        masks: N compressed RLEs, or boxes (N, 4) as x, y, width and height.
    """
    # To pycocotools, the IoU with a crowd is the share of the other mask that it covers. It looks
    # at boxes first, so that pairs that lie apart cost next to nothing.
    covered = coco_mask.iou(masks, masks, [True] * len(masks))
    return np.maximum(covered, covered.T)[np.triu_indices(len(masks), 1)]
