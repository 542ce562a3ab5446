"""What is known of an image whose depth is known, and what it says about predicted pairs.

Shapes: G annotated things, K predicted objects, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmbanet.datasets import PanopticAnnotations
from mmbanet.datasets.rle import decode_rle

# A small object on a large one: its whole area is less than this share of the other's.
SMALL = 0.25
# Two objects are alike in colour where their mean RGB vectors have a cosine above this.
ALIKE = 0.97
# Pixels of each mask that are float32 at once; float32 counts up to 2 ** 24 exactly.
PIXEL_BLOCK = 1 << 16

KINDS = ('same_class', 'small_on_large', 'alike')


class TrueDepth(NamedTuple):
    """The things of an image from front to back.

    Attributes:
        labels: (G,) int64.
        amodal: (G, H, W) bool, the full masks, as if nothing were in front.
        visible: (G, H, W) bool.
    """

    labels: np.ndarray
    amodal: np.ndarray
    visible: np.ndarray

    @classmethod
    def from_annotation(
        cls, annotations: PanopticAnnotations, img_id: int, label_of_category: dict[int, int]
    ) -> TrueDepth:
        """Reads an annotation with ``depth_order`` and ``amodal_rle`` (see :mod:`mmbanet.scenes`).

        Args:
            annotations: Checked by :func:`check_depth`.
            img_id: Of an annotated image.
            label_of_category: Labels of the thing categories; others are left out.

        Raises:
            ValueError: A full mask is not one of the image.
        """
        image, annotation = annotations.images[img_id], annotations.annotations[img_id]
        segments = {segment['id']: segment for segment in annotation['segments_info']}
        ordered = [segments[i] for i in annotation['depth_order']]
        things = [s for s in ordered if s['category_id'] in label_of_category]
        labels = np.array([label_of_category[s['category_id']] for s in things], dtype=np.int64)
        size = image['height'], image['width']
        amodal = np.zeros((len(things), *size), dtype=bool)
        visible = np.zeros_like(amodal)
        taken = np.zeros(size, dtype=bool)
        for i, segment in enumerate(things):
            try:
                amodal[i] = decode_rle(segment['amodal_rle'], size)
            except ValueError as error:
                place = annotations.where(img_id, segment['id'])
                raise ValueError(f'{place}: amodal_rle: {error}; make the scenes anew') from None
            visible[i] = amodal[i] & ~taken
            taken |= amodal[i]
        return cls(labels, amodal, visible)

    def occluded_pairs(self, occlusion_thr: float) -> set[tuple[int, int]]:
        """(front, behind) whose full masks overlap by more than the threshold of either."""
        overlaps = _products(self.amodal, self.amodal)
        areas = np.maximum(overlaps.diagonal(), 1)
        share = overlaps / np.minimum(areas[:, None], areas)
        return set(zip(*(i.tolist() for i in np.nonzero(np.triu(share > occlusion_thr, k=1)))))

    def match(self, masks: np.ndarray, labels: np.ndarray) -> dict[int, int]:
        """Pairs predicted objects with annotated things of the same class, one to one.

        Objects choose in their order: the thing of the largest IoU, with its visible or its full
        mask, whichever is larger, if that is above 0.5.

        Args:
            masks: (K, H, W) bool, in descending order of score.
            labels: (K,).

        Returns:
            From predicted to annotated index.
        """
        if len(masks) == 0:
            return {}  # of encoded ones, not even a size is known
        iou = np.maximum(_iou(masks, self.amodal), _iou(masks, self.visible))
        iou[labels[:, None] != self.labels] = 0
        matches = {}
        for k in range(len(masks)):
            if len(self.labels) > 0 and iou[k].max() > 0.5:
                matches[k] = int(iou[k].argmax())
                iou[:, matches[k]] = 0
        return matches

    def kinds(self, front: int, behind: int, colours: np.ndarray) -> set[str]:
        """Which of ``KINDS`` a pair of things is; ``colours`` (G, 3) are their mean RGB."""
        found = set()
        if self.labels[front] == self.labels[behind]:
            found.add('same_class')
        if self.amodal[front].sum() < SMALL * self.amodal[behind].sum():
            found.add('small_on_large')
        lengths = np.linalg.norm(colours[[front, behind]], axis=1).prod()
        if lengths > 0 and colours[front] @ colours[behind] / lengths > ALIKE:
            found.add('alike')
        return found

    def mean_colours(self, image: np.ndarray) -> np.ndarray:
        """(G, 3) mean colours of the visible pixels of an image (H, W, 3)."""
        counts = np.maximum(self.visible.sum(axis=(1, 2)), 1)
        sums = [image[mask].sum(axis=0, dtype=np.float64) for mask in self.visible]
        return np.reshape(sums, (-1, 3)) / counts[:, None]


def check_depth(annotations: PanopticAnnotations) -> None:
    """Raises a ValueError unless all images have a ``depth_order`` and all segments a full mask."""
    for img_id, annotation in annotations.annotations.items():
        segments = annotation['segments_info']
        if 'depth_order' not in annotation or any('amodal_rle' not in s for s in segments):
            raise ValueError(
                f'{annotations.where(img_id)}: no depth_order and amodal_rle: the depth must be '
                'known, as in the scenes of tools/make_scenes.py'
            )
        order = annotation['depth_order']
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(
            str(segment['id']) for segment in segments
        ):
            raise ValueError(
                f'{annotations.where(img_id)}: depth_order must hold the ids of its segments, each '
                'once; make the scenes anew'
            )


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(A, B) float64: pixels that masks (A, H, W) and (B, H, W) share."""
    pixels = int(np.prod(first.shape[1:]))
    first, second = first.reshape(len(first), pixels), second.reshape(len(second), pixels)
    shared = np.zeros((len(first), len(second)))
    for start in range(0, pixels, PIXEL_BLOCK):
        block = slice(start, start + PIXEL_BLOCK)
        shared += first[:, block].astype(np.float32) @ second[:, block].T.astype(np.float32)
    return shared


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    shared = _products(first, second)
    areas = first.sum(axis=(1, 2))[:, None] + second.sum(axis=(1, 2))
    return shared / np.maximum(areas - shared, 1)
