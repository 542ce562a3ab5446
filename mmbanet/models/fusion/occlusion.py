"""Occlusion handling by appearance, as pure functions (sections 3.3 and 4.3 of the paper).

Shapes: K objects, R regions of equal claims (see ``regions.py``), H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .appearance import AppearanceModel, MeanColor
from .checks import check_claims, check_image, check_preference, check_threshold
from .graph import OcclusionGraph, decide_pairs, order_objects
from .regions import ClaimRegions, nobody, pair_sums, partition_by_claims


def resolve_occlusion(
    masks: Tensor,
    scores: Tensor,
    image: Tensor,
    occlusion_thr: float = 0.2,
    removal_thr: float = 0.5,
    preference: Tensor | None = None,
    appearance: AppearanceModel | None = None,
) -> tuple[Tensor, Tensor]:
    """Gives every pixel that several objects claim to one of them.

    Two overlapping objects are an occluded pair when the overlap is more than ``occlusion_thr`` of
    either. An occluded pair goes to the object whose appearance is closer to that of the overlap,
    any other overlapping pair to the higher score. Ties go to the higher score, then to the lower
    index. Pairs are taken in descending order of their higher score (ties: in the order (0, 1),
    (0, 2), ..., (1, 2), ...); one that contradicts those before it is set aside. What remains
    orders the claimants of every pixel, and the front-most owns it. An object that lost more than
    ``removal_thr`` of its area is removed (judged once, all objects together), and its pixels pass
    to the front-most of their remaining claimants.

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
        appearance (AppearanceModel, optional): How similarities are measured; the paper's
            :class:`~mmbanet.models.fusion.appearance.MeanColor` by default.

    Returns:
        tuple: ``owner`` (H, W) int64, the index of the object that owns the pixel or -1, and
        ``keep`` (K,) bool, False for removed objects and for empty masks.

    Raises:
        TypeError, ValueError: If an argument's dtype, shape or values are not as above.
    """
    owner, graph = explain_occlusion(
        masks, scores, image, occlusion_thr, removal_thr, preference, appearance
    )
    return owner, graph.keep.to(masks.device)


@torch.no_grad()
def explain_occlusion(
    masks: Tensor,
    scores: Tensor,
    image: Tensor,
    occlusion_thr: float = 0.2,
    removal_thr: float = 0.5,
    preference: Tensor | None = None,
    appearance: AppearanceModel | None = None,
) -> tuple[Tensor, OcclusionGraph]:
    """:func:`resolve_occlusion` with the decisions that led there.

    Returns:
        tuple: ``owner`` (H, W) int64 and the :class:`OcclusionGraph`.
    """
    check_claims(masks, scores)
    check_image(image, masks.shape[1:])
    check_threshold('occlusion_thr', occlusion_thr)
    check_threshold('removal_thr', removal_thr)
    if preference is not None:
        check_preference(preference, len(masks))
    if masks.numel() == 0:
        return nobody(masks), empty_graph(len(masks))

    regions = partition_by_claims(masks)
    owners, graph = resolve_regions(
        regions, scores, image, occlusion_thr, removal_thr, preference, appearance
    )
    return owners[regions.index], graph


def resolve_regions(
    regions: ClaimRegions,
    scores: Tensor,
    image: Tensor | None,
    occlusion_thr: float,
    removal_thr: float,
    preference: Tensor | None = None,
    appearance: AppearanceModel | None = None,
) -> tuple[Tensor, OcclusionGraph]:
    """:func:`explain_occlusion` of what :func:`partition_by_claims` found, without checks.

    Without an image the smaller of an occluded pair is in front.

    Returns:
        tuple: (R,) int64, the owner of each region or -1, and the :class:`OcclusionGraph`.
    """
    overlaps = pair_overlaps(regions)
    if image is None:
        similarity, rule = -overlaps.diagonal()[:, None].expand_as(overlaps), 'smaller'
    else:
        model = MeanColor() if appearance is None else appearance
        similarity, rule = model.similarity(image, regions, overlaps), 'appearance'
    decided = decide_pairs(overlaps, scores, occlusion_thr, similarity, preference, rule)
    in_front, accepted = order_objects(decided.pairs, len(scores))
    owners, keep = lay_objects(regions, in_front.to(overlaps.device), removal_thr)
    areas = overlaps.diagonal().long().cpu()
    return owners, OcclusionGraph(*decided, accepted, in_front, areas, keep.cpu())


def pair_overlaps(regions: ClaimRegions) -> Tensor:
    """(K, K) float64: pixels that two objects share; the diagonal holds the objects' areas."""
    shared = regions.shared
    size = regions.size[shared, None].double()
    overlaps = pair_sums(regions.members[shared], lambda block: size[block])
    overlaps.diagonal().copy_(regions.areas)
    return overlaps


def lay_objects(
    regions: ClaimRegions, in_front: Tensor, removal_thr: float
) -> tuple[Tensor, Tensor]:
    """Gives every region to its front-most claimant, without the objects that lose too much by it.

    Args:
        regions (ClaimRegions): The pixels and who claims them.
        in_front (Tensor): (K, K) bool, transitive; orders any two objects that overlap.
        removal_thr (float): Share of an object's area, 0..1.

    Returns:
        tuple: (R,) int64, the owner of each region or -1, and ``keep`` (K,) bool.
    """
    # An object has more objects in front of it than any of those has: the count sorts them all.
    front_to_back = in_front.sum(dim=0).argsort(stable=True)
    members, size = regions.members, regions.size

    owners = _front_most(members, front_to_back)
    areas = regions.areas
    owned = torch.zeros_like(areas).index_add_(0, owners.clamp(min=0), size * (owners >= 0))
    lost = (areas - owned).double() / areas
    keep = (areas > 0) & ~(lost > removal_thr)
    return _front_most(members & keep, front_to_back), keep


def empty_graph(num_objects: int) -> OcclusionGraph:
    """The graph of objects without any pixel."""
    decided = decide_pairs(torch.zeros(num_objects, num_objects), torch.zeros(num_objects))
    in_front, accepted = order_objects(decided.pairs, num_objects)
    areas = torch.zeros(num_objects, dtype=torch.int64)
    return OcclusionGraph(*decided, accepted, in_front, areas, areas > 0)


def _front_most(members: Tensor, front_to_back: Tensor) -> Tensor:
    """(R,) int64: the first object of ``front_to_back`` among each region's members, or -1."""
    # max() returns the first of equal values, argmax() may not.
    found, place = members[:, front_to_back].view(torch.uint8).max(dim=1)
    return torch.where(found > 0, front_to_back[place], -1)
