"""The score-order rule of Kirillov et al. (Panoptic Segmentation, CVPR 2019) as a function."""

from __future__ import annotations

import torch
from torch import Tensor

from .checks import check_claims, check_threshold
from .graph import OcclusionGraph, decide_pairs
from .occlusion import pair_overlaps
from .regions import ClaimRegions, nobody, partition_by_claims


@torch.no_grad()
def resolve_by_score(
    masks: Tensor, scores: Tensor, removal_thr: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Lays objects in descending score; an object whose pixels are mostly taken is dropped.

    The same decisions as the official panopticapi: an object takes what is free of its mask, unless
    more than ``removal_thr`` of it is taken already. Equal scores: the lower index first.

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
        return nobody(masks), torch.zeros(len(masks), dtype=torch.bool, device=masks.device)
    regions = partition_by_claims(masks)
    owners, graph = resolve_regions_by_score(regions, scores, removal_thr)
    return owners[regions.index], graph.keep.to(masks.device)


def resolve_regions_by_score(
    regions: ClaimRegions, scores: Tensor, removal_thr: float
) -> tuple[Tensor, OcclusionGraph]:
    """:func:`resolve_by_score` of what :func:`partition_by_claims` found, without checks.

    Returns:
        tuple: (R,) int64, the owner of each region or -1, and the :class:`OcclusionGraph`.
    """
    # Every object waits for the one before it: on the CPU, a GPU would wait K times for each.
    members, size = regions.members.cpu(), regions.size.cpu()
    owners = torch.full_like(size, -1)
    keep = torch.zeros(len(scores), dtype=torch.bool)
    order = scores.cpu().argsort(descending=True, stable=True)
    for k in order.tolist():
        claimed, free = members[:, k], owners < 0
        area = int(size[claimed].sum())
        taken = int(size[claimed & ~free].sum())
        if area == 0 or taken / area > removal_thr:
            continue
        owners[claimed & free] = k
        keep[k] = True

    overlaps = pair_overlaps(regions).cpu()
    decided = decide_pairs(overlaps, scores)
    place = order.argsort()
    in_front = place[:, None] < place
    accepted = torch.ones(len(decided.pairs), dtype=torch.bool)
    areas = overlaps.diagonal().long()
    return owners.to(regions.size.device), OcclusionGraph(*decided, accepted, in_front, areas, keep)
