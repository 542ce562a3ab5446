"""Who is in front of whom, as overlapping instance masks and a panoptic map say it together.

OCFusion's ground truth (Lazarow et al., "Learning Instance Occlusion for Panoptic Segmentation",
CVPR 2020): two instance masks may claim a pixel, a panoptic map gives it to one of them.

Shapes: K instances, S segments, P pixels that several instances claim, H x W pixels.
"""

from __future__ import annotations

import numpy as np

# In front is who owns more than this share of an overlap, ...
MAJORITY = 0.5
# ... and this many times as much of it as the other one.
CLEARLY = 2
# The share of a segment that must lie in the mask of its instance.
CONTAINED = 0.5


def instance_order(masks: np.ndarray, owner: np.ndarray, overlap_thr: float = 0.2) -> np.ndarray:
    """The order of instances whose masks overlap by more than ``overlap_thr`` of either.

    The one in front owns more than half of the overlap and at least twice as much of it as the
    other one. Of all other pairs nothing is said.

    Args:
        masks: (K, H, W) bool, masks that may overlap.
        owner: (H, W) integer, the index of the mask whose instance a panoptic map shows, -1 for
            none of them. See :func:`instance_owner`.
        overlap_thr: Share of the smaller mask, 0..1.

    Returns:
        (K, K) int8, antisymmetric: 1 at [i, j] where i is in front of j, -1 where it is behind, 0
        where nothing is known.

    Raises:
        TypeError, ValueError: If an argument's dtype, shape or values are not as above.
    """
    _check(masks, owner)
    if not 0 <= overlap_thr <= 1:
        raise ValueError(f'overlap_thr must be a share in 0..1, got {overlap_thr}')
    areas = masks.sum(axis=(1, 2))
    several = masks.sum(axis=0, dtype=np.int32) > 1
    claims, owner = masks[:, several], owner[several]
    owned = claims & (owner == np.arange(len(masks))[:, None])
    claims, owned = claims.astype(np.float32), owned.astype(np.float32)
    overlap = claims @ claims.T  # float32 counts up to 2 ** 24 pixels exactly
    np.fill_diagonal(overlap, 0)
    share = overlap / np.maximum(np.minimum(areas[:, None], areas), 1)
    mine = owned @ claims.T  # of the overlap of i and j, what i owns
    front = (share > overlap_thr) & (mine > MAJORITY * overlap) & (mine >= CLEARLY * mine.T)
    return front.astype(np.int8) - front.T.astype(np.int8)


def instance_owner(
    masks: np.ndarray, labels: np.ndarray, segment_ids: np.ndarray, segments: dict[int, int]
) -> np.ndarray:
    """Whose segment every pixel of a panoptic map is, as :func:`instance_order` needs it.

    COCO's instances and segments have no ids in common. A segment is that of the instance of its
    class whose mask has the largest IoU with it, one to one, largest first, and in whose mask at
    least half of it lies.

    Args:
        masks: (K, H, W) bool.
        labels: (K,) integer.
        segment_ids: (H, W) integer, the panoptic map.
        segments: By the segment's id its label; others are nobody's, which suits stuff and crowds.

    Returns:
        (H, W) int64, the index of an instance or -1.

    Raises:
        TypeError, ValueError: If an argument's dtype or shape is not as above.
    """
    _check(masks, segment_ids)
    if np.shape(labels) != (len(masks),):
        raise ValueError(f'labels must be ({len(masks)},), one a mask, got {np.shape(labels)}')
    owner = np.full(segment_ids.shape, -1, dtype=np.int64)
    areas = masks.sum(axis=(1, 2))
    pairs = []
    for segment_id, label in segments.items():
        own = (np.asarray(labels) == label).nonzero()[0]
        pixels = segment_ids == segment_id
        area = np.count_nonzero(pixels)
        if not area or not len(own):
            continue
        both = masks[own][:, pixels].sum(axis=1)
        iou = both / (areas[own] + area - both)
        inside = both >= CONTAINED * area
        pairs += [(-i, k, segment_id) for i, k in zip(iou[inside], own[inside].tolist())]
    taken, placed = set(), set()
    for _, k, segment_id in sorted(pairs):
        if k not in taken and segment_id not in placed:
            owner[segment_ids == segment_id] = k
            taken.add(k)
            placed.add(segment_id)
    return owner


def _check(masks: np.ndarray, pixels: np.ndarray) -> None:
    """Raises unless masks are (K, H, W) bool and a map of integers is of their size."""
    for name, array, kind in (('masks', masks, np.bool_), ('the map', pixels, np.integer)):
        dtype = getattr(array, 'dtype', type(array))
        if not isinstance(array, np.ndarray) or not np.issubdtype(dtype, kind):
            expected = 'bool' if kind is np.bool_ else 'integers'
            raise TypeError(f'{name} must be an array of {expected}, got {dtype}')
    if masks.ndim != 3:
        raise ValueError(f'masks must have the shape (K, H, W), got {masks.shape}')
    if pixels.shape != masks.shape[1:]:
        raise ValueError(
            f'the map must have the size of the masks, {masks.shape[1:]}, got {pixels.shape}'
        )
