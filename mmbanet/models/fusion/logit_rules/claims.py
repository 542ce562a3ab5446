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
    for k, (mask, group) in enumerate(zip(masks, groups.tolist())):
        if group not in taken:
            taken[group] = torch.zeros_like(mask)
        area = int(mask.sum())
        if area > 0 and int((mask & taken[group]).sum()) / area <= removal_thr:
            taken[group] |= mask
            kept.append(k)
    return kept
