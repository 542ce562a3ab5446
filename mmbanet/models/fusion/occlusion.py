"""Occlusion handling by appearance, as pure functions (sections 3.3 and 4.3 of the paper).

Shapes: K objects, R regions of equal claims (see ``regions.py``), H x W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .checks import check_claims, check_image, check_preference, check_threshold
from .regions import ClaimRegions, nobody, partition_by_claims, sum_over_regions

# Mean cosines this close are equal: far above the rounding errors of float64 over an image, far
# below what 8-bit colours can mean. Without it, rounding would decide between equal colours.
COSINE_TIE = 1e-9
# An RGB vector (0..255) this short is black. Exactly 0 would miss the black of a normalised
# float32 image, which comes back as noise of 1e-5 whose direction means nothing.
BLACK = 1e-3
# Regions per matrix product, which bounds the float64 copies when masks are noise.
BLOCK = 8192


@torch.no_grad()
def resolve_occlusion(
    masks: Tensor,
    scores: Tensor,
    image: Tensor,
    occlusion_thr: float = 0.2,
    removal_thr: float = 0.5,
    preference: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gives every pixel that several objects claim to one of them.

    Two overlapping objects are an occluded pair when the overlap is more than ``occlusion_thr`` of
    either. An occluded pair goes to the object whose mean colour is closer (cosine) to the colours
    of the overlap, any other overlapping pair to the higher score. Ties go to the higher score,
    then to the lower index. Pairs are taken in descending order of their higher score (ties: in
    the order (0, 1), (0, 2), ..., (1, 2), ...); one that contradicts those before it is set aside.
    What remains orders the claimants of every pixel, and the front-most owns it. An object that
    lost more than ``removal_thr`` of its area is removed (judged once, all objects together), and
    its pixels pass to the front-most of their remaining claimants.

    Args:
        masks (Tensor): (K, H, W) bool.
        scores (Tensor): (K,) floating point.
        image (Tensor): (3, H, W) RGB in 0..255, integer or floating point.
        occlusion_thr (float): Share of an object's area, 0..1.
        removal_thr (float): Share of an object's area, 0..1.
        preference (Tensor, optional): (K, K) int8, antisymmetric. 1 at [i, j] says that i is in
            front of j, -1 the opposite, 0 that the rules above decide. It decides occluded and
            other overlapping pairs alike, and takes part in the order of pairs as they do: it is
            set aside where it contradicts a pair of higher score.

    Returns:
        tuple: ``owner`` (H, W) int64, the index of the object that owns the pixel or -1, and
        ``keep`` (K,) bool, False for removed objects and for empty masks.

    Raises:
        TypeError, ValueError: If an argument's dtype, shape or values are not as above.
    """
    check_claims(masks, scores)
    check_image(image, masks)
    check_threshold('occlusion_thr', occlusion_thr)
    check_threshold('removal_thr', removal_thr)
    if preference is not None:
        check_preference(preference, len(masks))
    if masks.numel() == 0:
        return nobody(masks)

    regions = partition_by_claims(masks)
    overlaps = pair_overlaps(regions)
    similarity = appearance_similarity(image, regions, overlaps)
    pairs = decide_pairs(overlaps, similarity, scores, occlusion_thr, preference)
    in_front, _ = order_objects(pairs, len(masks))
    return lay_objects(regions, in_front.to(masks.device), removal_thr)


def pair_overlaps(regions: ClaimRegions) -> Tensor:
    """(K, K) float64: pixels that two objects share; the diagonal holds the objects' areas."""
    num_objects = regions.members.shape[1]
    overlaps = torch.zeros(
        (num_objects, num_objects), dtype=torch.float64, device=regions.size.device
    )
    for members, size in zip(regions.members.split(BLOCK), regions.size.split(BLOCK)):
        members = members.double()
        overlaps += (members * size[:, None]).T @ members
    return overlaps


def appearance_similarity(image: Tensor, regions: ClaimRegions, overlaps: Tensor) -> Tensor:
    """(K, K) float64: at [i, j] the mean cosine between i's mean RGB and the pixels of i and j.

    The mean cosine over a set of pixels is linear in their unit vectors,
    ``mean cos(x, m) = m/|m| . mean(x/|x|)``, so one vector per region stands for its pixels, and
    only regions with two claimants or more are needed. Black has the cosine 0 with anything.
    """
    num_regions = len(regions.size)
    index, rgb = regions.index.flatten(), image.flatten(1)
    rgb_sum = sum_over_regions(rgb, index, num_regions, fraction_bits=28)
    mean_rgb = sum(
        members.double().T @ block
        for members, block in zip(regions.members.split(BLOCK), rgb_sum.split(BLOCK))
    ) / overlaps.diagonal()[:, None].clamp(min=1)
    direction = _unit(mean_rgb, dim=1)

    shared = regions.members.sum(dim=1) > 1
    pixels = shared[index].nonzero().squeeze(1)
    unit = _unit(rgb[:, pixels].double(), dim=0)
    unit_sum = sum_over_regions(unit, index[pixels], num_regions, fraction_bits=36)

    cosine_sum = torch.zeros_like(overlaps)
    for members, units in zip(regions.members[shared].split(BLOCK), unit_sum[shared].split(BLOCK)):
        members = members.double()
        cosine_sum += (members * (units @ direction.T)).T @ members
    return cosine_sum / overlaps.clamp(min=1)


def decide_pairs(
    overlaps: Tensor,
    similarity: Tensor,
    scores: Tensor,
    occlusion_thr: float,
    preference: Tensor | None = None,
) -> Tensor:
    """(M, 2) int64 on the CPU: (front, behind) of all overlapping pairs, highest score first.

    Each pair is decided by itself here; :func:`order_objects` then settles contradictions.
    """
    overlaps, similarity, scores = overlaps.cpu(), similarity.cpu(), scores.cpu().double()
    first, second = overlaps.triu(diagonal=1).nonzero().unbind(dim=1)
    shared, areas = overlaps[first, second], overlaps.diagonal()
    # Compared as quotients: rounding keeps "exactly 20%" equal to 0.2, which a product does not.
    share = torch.maximum(shared / areas[first], shared / areas[second])
    closer = similarity[first, second] - similarity[second, first]

    verdict = (scores[first] >= scores[second]).long() * 2 - 1
    by_appearance = (share > occlusion_thr) & (closer.abs() > COSINE_TIE)
    verdict = torch.where(by_appearance, closer.sign().long(), verdict)
    if preference is not None:
        wish = preference.cpu()[first, second].long()
        verdict = torch.where(wish != 0, wish, verdict)

    front = torch.where(verdict > 0, first, second)
    behind = torch.where(verdict > 0, second, first)
    pair_score = torch.maximum(scores[first], scores[second])
    order = pair_score.argsort(descending=True, stable=True)
    return torch.stack([front, behind], dim=1)[order]


def order_objects(pairs: Tensor, num_objects: int) -> tuple[Tensor, Tensor]:
    """Accepts (front, behind) pairs in the given order, except those that would close a cycle.

    Args:
        pairs (Tensor): (M, 2) int64 on the CPU.
        num_objects (int): K.

    Returns:
        tuple: ``in_front`` (K, K) bool, True at [i, j] where i is in front of j, directly or
        through others, and ``accepted`` (M,) bool, False for the pairs that were set aside.
    """
    reach = np.eye(num_objects, dtype=bool)
    accepted = torch.ones(len(pairs), dtype=torch.bool)
    for place, (front, behind) in enumerate(pairs.tolist()):
        if reach[behind, front]:
            accepted[place] = False
        elif not reach[front, behind]:
            reach[reach[:, front]] |= reach[behind]
    np.fill_diagonal(reach, False)
    return torch.from_numpy(reach), accepted


def lay_objects(
    regions: ClaimRegions, in_front: Tensor, removal_thr: float
) -> tuple[Tensor, Tensor]:
    """Gives every pixel to its front-most claimant, without the objects that lose too much by it.

    Returns what :func:`resolve_occlusion` returns.

    Args:
        regions (ClaimRegions): The pixels and who claims them.
        in_front (Tensor): (K, K) bool, transitive; orders any two objects that overlap.
        removal_thr (float): Share of an object's area, 0..1.
    """
    # An object has more objects in front of it than any of those has: the count sorts them all.
    front_to_back = in_front.sum(dim=0).argsort(stable=True)
    members, size = regions.members, regions.size

    owner = _front_most(members, front_to_back)
    areas = (members * size[:, None]).sum(dim=0)
    owned = torch.zeros_like(areas).index_add_(0, owner.clamp(min=0), size * (owner >= 0))
    lost = (areas - owned).double() / areas
    keep = (areas > 0) & ~(lost > removal_thr)
    return _front_most(members & keep, front_to_back)[regions.index], keep


def _front_most(members: Tensor, front_to_back: Tensor) -> Tensor:
    """(R,) int64: the first object of ``front_to_back`` among each region's members, or -1."""
    # max() returns the first of equal values, argmax() may not.
    found, place = members[:, front_to_back].view(torch.uint8).max(dim=1)
    return torch.where(found > 0, front_to_back[place], -1)


def _unit(vectors: Tensor, dim: int) -> Tensor:
    """Vectors of length 1, or 0 for black."""
    length = vectors.square().sum(dim=dim, keepdim=True).sqrt_()
    return vectors * torch.where(length > BLACK, 1 / length, 0)
