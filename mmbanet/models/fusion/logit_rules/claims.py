"""Which instances are dropped as their pixels are taken by others before them."""

from __future__ import annotations

import torch
from torch import Tensor


def not_taken(masks: Tensor, groups: Tensor, removal_thr: float) -> list[int]:
    """Instances, in their order, of which at most a share is taken by earlier ones of their group.

    Args:
        masks: (K, H, W) bool. Who stays takes its whole mask.
        groups: (K,) int64.
        removal_thr: 0..1.
    """
    taken = {}
    kept = []
    for k, (mask, group, rows) in enumerate(zip(masks, groups.tolist(), _row_ranges(masks))):
        if group not in taken:
            taken[group] = torch.zeros_like(mask)
        own, others = mask[rows], taken[group][rows]
        area = int(own.count_nonzero())
        if area > 0 and int((own & others).count_nonzero()) / area <= removal_thr:
            others |= own
            kept.append(k)
    return kept


def _row_ranges(masks: Tensor) -> list[slice]:
    """The rows in which each mask has pixels."""
    if masks.numel() == 0:
        return [slice(0, 0)] * len(masks)
    filled = masks.view(torch.uint8).amax(dim=2)
    first = filled.max(dim=1).indices.tolist()  # the first of equals, unlike argmax
    last = filled.flip(1).max(dim=1).indices.tolist()
    return [slice(a, masks.shape[1] - b) for a, b in zip(first, last)]
