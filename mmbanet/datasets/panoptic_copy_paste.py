"""Copy-paste for panoptic data, which knows semantics and who is in front."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.structures.bbox import autocast_box_type
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import BaseDataset

from mmbanet.registry import TRANSFORMS

from .soft_edges import soften

#: Pixels around a thing that its soft edge needs.
MARGIN = 4


@TRANSFORMS.register_module()
class PanopticCopyPaste(BaseTransform):
    """Pastes things of another image, at their own place, over an image with panoptic annotations.

    mmdet's ``CopyPaste`` leaves the semantic map as it was. Here pasted things are in front of
    everything in the semantic map, too; instance masks overlap, since what is behind keeps its full
    mask; and ``gt_order`` says who is in front. Edges are soft. Belongs into the pipeline of a
    ``MultiImageMixDataset``, after whatever loads, resizes and filters.

    Required Keys:

    - img (np.ndarray)
    - gt_bboxes (HorizontalBoxes)
    - gt_bboxes_labels (np.int64)
    - gt_ignore_flags (bool)
    - gt_masks (BitmapMasks)
    - gt_seg_map (np.uint8), in which the label of a thing class is that of its instances
    - gt_order (np.int8) (optional): (K, K), 1 at [i, j] where i is in front of j, -1 the
      opposite, 0 unknown
    - mix_results: one other image, with the same keys

    Modified Keys: all but mix_results; gt_order is added if it was not there.

    Args:
        max_num_pasted: At most that many things are pasted, at least one if there is any.
        min_visible_pixels: Things of which fewer pixels are, or remain, visible are not
            pasted, or are no longer annotated as instances. Their semantics stay.
        min_visible_share: Likewise the share of the mask, 0..1.
        overlap: Whether instances keep the part of their mask that is pasted over. If not,
            masks and boxes are those of what is visible, as in mmdet.
    """

    def __init__(
        self,
        max_num_pasted: int = 6,
        min_visible_pixels: int = 64,
        min_visible_share: float = 0.25,
        overlap: bool = True,
    ) -> None:
        if max_num_pasted < 1:
            raise ValueError(f'max_num_pasted must be at least 1, got {max_num_pasted}')
        if min_visible_pixels < 1:
            raise ValueError(f'min_visible_pixels must be at least 1, got {min_visible_pixels}')
        if not 0 <= min_visible_share <= 1:
            raise ValueError(f'min_visible_share must be in 0..1, got {min_visible_share}')
        self.max_num_pasted = max_num_pasted
        self.min_visible_pixels = min_visible_pixels
        self.min_visible_share = min_visible_share
        self.overlap = overlap

    @cache_randomness
    def get_indexes(self, dataset: BaseDataset) -> int:
        """The number of the other image."""
        return int(np.random.randint(len(dataset)))

    @autocast_box_type()
    def transform(self, results: dict) -> dict:
        """Pastes things of ``mix_results`` into the image.

        Raises:
            ValueError: There is not one image in ``mix_results``, or a key is missing.
        """
        others = results.get('mix_results', [])
        if len(others) != 1:
            raise ValueError(
                f'PanopticCopyPaste needs one image in mix_results, got {len(others)}: put it into '
                'the pipeline of a MultiImageMixDataset'
            )
        (source,) = others
        for key in ('gt_masks', 'gt_seg_map', 'gt_bboxes_labels', 'gt_ignore_flags'):
            if key not in results or key not in source:
                raise ValueError(f'PanopticCopyPaste needs {key}: load panoptic annotations first')
        return self._paste(results, source, *self._select(source, results['img'].shape[:2]))

    def _select(self, source: dict, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The things to be pasted, and what is visible of each in an image of that size."""
        masks = source['gt_masks'].masks.astype(bool)
        labels = source['gt_bboxes_labels']
        seen = masks & (source['gt_seg_map'] == labels[:, None, None])
        order = source.get('gt_order')
        if order is not None:
            for i in range(len(masks)):
                seen[i] &= ~masks[order[:, i] > 0].any(axis=0)
        height, width = size
        placed = np.zeros((len(masks), height, width), dtype=bool)
        part = seen[:, :height, :width]
        placed[:, : part.shape[1], : part.shape[2]] = part
        fit = self._is_visible(placed, masks) & ~source['gt_ignore_flags'].astype(bool)
        chosen = self._choose(np.flatnonzero(fit))
        return chosen, placed[chosen]

    @cache_randomness
    def _choose(self, fit: np.ndarray) -> np.ndarray:
        if len(fit) == 0:
            return fit
        number = np.random.randint(1, min(len(fit), self.max_num_pasted) + 1)
        return np.sort(np.random.choice(fit, number, replace=False))

    def _is_visible(self, seen: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """(K,) bool: whether enough is seen of each mask."""
        pixels, areas = np.count_nonzero(seen, axis=(1, 2)), np.count_nonzero(masks, axis=(1, 2))
        return pixels >= np.maximum(self.min_visible_pixels, self.min_visible_share * areas)

    def _paste(self, results: dict, source: dict, chosen: np.ndarray, pasted: np.ndarray) -> dict:
        image, masks = results['img'].copy(), results['gt_masks'].masks.astype(bool)
        covered, labels = pasted.any(axis=0), results['gt_bboxes_labels']
        for mask in pasted:
            _blend(image, source['img'], mask)

        # As in the other image: what is seen of its things does not overlap where it knows better.
        seg_map = results['gt_seg_map'].copy()
        new_labels = source['gt_bboxes_labels'][chosen]
        for mask, label in zip(pasted, new_labels):
            seg_map[mask] = label
        # What could not be seen before is not lost now.
        seen = masks & (results['gt_seg_map'] == labels[:, None, None])
        touched = (masks & covered).any(axis=(1, 2))
        keep = ~touched | self._is_visible(seen & ~covered, masks)
        keep |= results['gt_ignore_flags'].astype(bool)
        behind = masks[keep] if self.overlap else masks[keep] & ~covered
        num_kept, num_pasted = len(behind), len(pasted)

        order = np.zeros((num_kept + num_pasted,) * 2, dtype=np.int8)
        if 'gt_order' in results:
            order[:num_kept, :num_kept] = results['gt_order'][np.ix_(keep, keep)]
        if 'gt_order' in source:
            order[num_kept:, num_kept:] = source['gt_order'][np.ix_(chosen, chosen)]
        for i, mask in enumerate(pasted):
            over = (masks[keep] & mask).any(axis=(1, 2))
            order[num_kept + i, :num_kept] = over
            order[:num_kept, num_kept + i] = -over.astype(np.int8)

        height, width = covered.shape
        all_masks = np.concatenate([behind, pasted]).astype(np.uint8)
        boxes = results['gt_bboxes'][torch.from_numpy(keep)]
        box_type = type(boxes)
        new_masks = BitmapMasks(all_masks, height, width)
        # Boxes of what was not touched stay as they are, to the fraction of a pixel.
        changed = np.concatenate([touched[keep] & (not self.overlap), np.ones(num_pasted, bool)])
        of_masks = new_masks.get_bboxes(box_type)
        tensor = torch.cat([boxes.tensor, of_masks.tensor[num_kept:]])
        tensor[changed] = of_masks.tensor[changed].to(tensor)
        results['img'] = image
        results['gt_seg_map'] = seg_map
        results['gt_masks'] = new_masks
        results['gt_bboxes'] = box_type(tensor)
        results['gt_bboxes_labels'] = np.concatenate([labels[keep], new_labels])
        results['gt_ignore_flags'] = np.concatenate(
            [results['gt_ignore_flags'][keep], source['gt_ignore_flags'][chosen]]
        )
        results['gt_order'] = order
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_num_pasted={self.max_num_pasted}, '
            f'min_visible_pixels={self.min_visible_pixels}, '
            f'min_visible_share={self.min_visible_share}, overlap={self.overlap})'
        )


def _blend(image: np.ndarray, source: np.ndarray, mask: np.ndarray) -> None:
    """Lays the pixels of a mask (H, W) bool in one image over another, with a soft edge."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = (min(a, b) for a, b in zip(image.shape, source.shape[:2]))
    window = (
        slice(max(rows[0] - MARGIN, 0), min(rows[-1] + 1 + MARGIN, height)),
        slice(max(cols[0] - MARGIN, 0), min(cols[-1] + 1 + MARGIN, width)),
    )
    color, alpha = soften(source[window], np.ascontiguousarray(mask[window]))
    under = image[window].astype(np.float32)
    mixed = under + alpha[..., None] * (color - under)
    if np.issubdtype(image.dtype, np.integer):
        mixed = np.clip(np.rint(mixed), 0, 255)
    image[window] = mixed.astype(image.dtype)
