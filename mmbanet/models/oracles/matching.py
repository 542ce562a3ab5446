"""Predicted objects against annotated things: which is which, and who is in front.

Shapes: K predicted objects, G annotated things, H x W pixels.
"""

from __future__ import annotations

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor


def match_boxes(boxes: Tensor, true_boxes: Tensor, iou_thr: float) -> Tensor:
    """The annotated thing that each predicted box stands for.

    That is the thing of the largest IoU (of equal ones the first), if its IoU is above ``iou_thr``.
    Classes play no part, and several predictions may stand for the same thing.

    Args:
        boxes: (K, 4).
        true_boxes: (G, 4), in the same pixels.
        iou_thr: 0..1.

    Returns:
        (K,) int64, the index of the thing or -1.
    """
    if len(true_boxes) == 0:
        return torch.full_like(boxes[:, 0], -1, dtype=torch.long)
    best, thing = bbox_overlaps(boxes, true_boxes).max(dim=1)
    return torch.where(best > iou_thr, thing, -1)


def true_preference(masks: Tensor, matches: Tensor, true_masks: Tensor) -> Tensor:
    """Who is in front: of the pixels that two predictions claim, whose thing owns more.

    Nothing is said (0) of a pair of which one has no match or both have the same, nor where both
    things own equally many of these pixels: none of them, for instance, if all are stuff.

    Args:
        masks: (K, H, W) bool.
        matches: (K,) int64, the thing of each prediction or -1, see :func:`match_boxes`.
        true_masks: (G, H, W) bool.

    Returns:
        (K, K) int8, 1 at [i, j] where i is in front of j and -1 where it is behind, see
        :func:`resolve_occlusion`.
    """
    preference = torch.zeros(len(masks), len(masks), dtype=torch.int8, device=masks.device)
    matched = (matches >= 0).nonzero()[:, 0]
    if len(matched) > 0:
        claims = masks[matched]
        contested = claims.sum(dim=0) > 1
        claims = claims[:, contested]
        rightful = claims & true_masks[matches[matched]][:, contested]
        # At [i, j]: the pixels that both claim and i's thing owns. Mixed precision, which would
        # round the counts, leaves float64 alone.
        owned = rightful.double() @ claims.double().T
        preference[matched[:, None], matched] = (owned - owned.T).sign().to(torch.int8)
    return preference
