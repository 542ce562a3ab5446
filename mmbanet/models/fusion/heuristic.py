"""The score-order rule of Kirillov et al. (Panoptic Segmentation, CVPR 2019) as a function."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_claims, check_threshold
from .regions import nobody, partition_by_claims


@torch.no_grad()
def resolve_by_score(
    masks: Tensor, scores: Tensor, removal_thr: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Lays objects in descending score; an object whose pixels are mostly taken is dropped.

    The same decisions as mmdet's ``HeuristicFusionHead``: an object takes what is free of its mask,
    unless more than ``removal_thr`` of it is taken already. Equal scores: the lower index first.

    Args:
        masks (Tensor): (K, H, W) bool.
        scores (Tensor): (K,) floating point.
        removal_thr (float): Share of an object's area, 0..1; mmdet's ``mask_overlap``.

    Returns:
        tuple: ``owner`` (H, W) int64, the index of the object that owns the pixel or -1, and
        ``keep`` (K,) bool, False for dropped objects and for empty masks.
    """
    check_claims(masks, scores)
    check_threshold('removal_thr', removal_thr)
    if masks.numel() == 0:
        return nobody(masks)

    regions = partition_by_claims(masks)
    # Every object waits for the one before it: on the CPU, a GPU would wait K times for each.
    members, size = regions.members.cpu(), regions.size.cpu()
    owner = torch.full_like(size, -1)
    keep = torch.zeros(len(masks), dtype=torch.bool)
    for k in scores.cpu().argsort(descending=True, stable=True).tolist():
        claimed, free = members[:, k], owner < 0
        area = size[claimed].sum()
        taken = size[claimed & ~free].sum()
        # mmdet's own expression, in float32, so that borderline cases fall alike.
        if area == 0 or taken / (area + 1e-5) > removal_thr:
            continue
        owner[claimed & free] = k
        keep[k] = True
    return owner.to(masks.device)[regions.index], keep.to(masks.device)
