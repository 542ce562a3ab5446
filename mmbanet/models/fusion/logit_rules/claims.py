"""Which instances are dropped as their pixels are taken by others before them."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.structures.claim_regions import row_ranges


def not_taken(masks: Tensor, groups: Tensor, removal_thr: float) -> list[int]:
    """Instances, in their order, of which at most a share is taken by earlier ones of their group.

    Args:
        masks: (K, H, W) bool. Who stays takes its whole mask.
        groups: (K,) int64.
        removal_thr: 0..1.
    """
    taken = {}
    kept = []
    ranges = row_ranges(masks, range(len(masks)))
    for k, (mask, group, (top, bottom)) in enumerate(zip(masks, groups.tolist(), ranges)):
        if group not in taken:
            taken[group] = torch.zeros_like(mask)
        own, others = mask[top:bottom], taken[group][top:bottom]
        area = int(own.count_nonzero())
        if area > 0 and int((own & others).count_nonzero()) / area <= removal_thr:
            others |= own
            kept.append(k)
    return kept
