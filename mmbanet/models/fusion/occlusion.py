"""Occlusion handling (sections 3.3 and 4.3 of the paper), as pure functions of masks.

Three steps: every *pair* of overlapping objects is decided by itself, pairs that agree make an
*order* of all objects, and objects that lose too much to those in front of them are *removed*.

Shapes: K objects, M overlapping pairs, R regions of equal claims, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmbanet.structures import ClaimRegions, OcclusionGraph

from .checks import check_image, check_masks, check_preference, check_scores
from .order import MeanColor, OrderRule
from .settings import OcclusionSettings

NO_DUPLICATES = torch.zeros((0, 2), dtype=torch.int64), torch.zeros((0, 2), dtype=torch.float64)


def resolve_occlusion(
    masks: Tensor,
    scores: Tensor,
    image: Tensor | None,
    occlusion_thr: float = 0.2,
    removal_thr: float = 0.5,
    preference: Tensor | None = None,
    *,
    order: OrderRule | Sequence[OrderRule] = MeanColor(),  # noqa: B008 (has no state)
    pairs: str = 'all',
    removal: str = 'joint',
) -> tuple[Tensor, Tensor]:
    """Gives every pixel that several objects claim to one of them.

    Two overlapping objects are an occluded pair when the overlap is more than ``occlusion_thr`` of
    either. An occluded pair goes to the object that the order rule puts in front, any other
    overlapping pair, and one of which no rule can tell, to the higher score. Ties go to the lower
    index. Pairs are taken in descending order of their higher score (ties: in the order (0, 1),
    (0, 2), ..., (1, 2), ...); one that contradicts those before it is set aside. What remains
    orders the claimants of every pixel, and the front-most owns it. An object that lost more than
    ``removal_thr`` of its area to others is removed, and its pixels pass to the front-most of their
    remaining claimants.

    Args:
        masks: (K, H, W) bool.
        scores: (K,) floating point.
        image: (3, H, W) RGB in 0..255, integer or floating point. May be None
            where no rule looks at it.
        occlusion_thr: Share of an object's area, 0..1.
        removal_thr: Share of an object's area, 0..1.
        preference: (K, K) int8, antisymmetric. 1 at [i, j] says that i is in
            front of j, -1 the opposite, 0 that the rules above decide. It decides occluded and
            other overlapping pairs alike, and takes part in the order of pairs as occluded ones
            do: it is set aside where it contradicts a pair before it.
        order: See :class:`OcclusionSettings`.
        pairs: ``'all'`` or ``'occluded_first'``, see :class:`OcclusionSettings`.
        removal: ``'joint'`` or ``'front_to_back'``, see :class:`OcclusionSettings`.

    Returns:
        ``owner`` (H, W) int64, the index of the object that owns the pixel or -1, and
        ``keep`` (K,) bool, False for removed objects and for empty masks.

    Raises:
        TypeError, ValueError: If an argument's dtype, shape or values are not as above.
    """
    settings = OcclusionSettings(occlusion_thr, removal_thr, order, pairs, removal)
    owner, graph = explain_occlusion(masks, scores, image, preference, settings=settings)
    return owner, graph.keep.to(masks.device)


@torch.no_grad()
def explain_occlusion(
    masks: Tensor,
    scores: Tensor,
    image: Tensor | None = None,
    preference: Tensor | None = None,
    *,
    settings: OcclusionSettings = OcclusionSettings(),  # noqa: B008 (frozen)
    objects: Tensor | None = None,
    labels: Tensor | None = None,
) -> tuple[Tensor, OcclusionGraph]:
    """:func:`resolve_occlusion` with the decisions that led there.

    Args:
        masks: (N, H, W) bool.
        scores: (K,), see :func:`resolve_occlusion`, as are image and preference.
        image: (3, H, W).
        preference: (K, K).
        settings: Thresholds, order rules and readings.
        objects: (K,) int64, the masks that take part, in their order. All of
            them, K = N, if not given. Spares a copy of the masks.
        labels: (K,) integers, classes, where duplicates must be of one class.

    Returns:
        ``owner`` (H, W) int64 and the :class:`OcclusionGraph`.
    """
    check_masks(masks)
    num_objects = len(masks if objects is None else objects)
    check_scores(scores, num_objects)
    if image is not None or settings.need_image:
        check_image(image, masks.shape[1:])
    if preference is not None:
        check_preference(preference, num_objects)

    regions = ClaimRegions.from_masks(masks, objects)
    areas, filter_ = regions.areas.cpu(), settings.duplicates
    if filter_ is None:
        duplicates, alike = NO_DUPLICATES
    else:
        known = None if preference is None else preference != 0
        duplicates, alike = filter_.find(image, regions, scores, labels, known)
    if len(duplicates):
        regions = regions.without(duplicates[:, 0])
    decided = decide_pairs(regions, scores, image, preference, settings)
    in_front, accepted = order_objects(decided.pairs, num_objects)
    # An object has more objects in front of it than any of those has: the count sorts them all.
    front_to_back = in_front.sum(dim=0).argsort(stable=True).to(masks.device)
    remove = remove_jointly if settings.removal == 'joint' else remove_front_to_back
    owners, keep = remove(regions, front_to_back, settings.removal_thr)

    owner = owners.index_select(0, regions.index.flatten()).view(masks.shape[1:])
    graph = OcclusionGraph(*decided, accepted, in_front, areas, keep.cpu(), duplicates, alike)
    return owner, graph


class DecidedPairs(NamedTuple):
    """The first five fields of :class:`OcclusionGraph`."""

    pairs: Tensor
    overlap: Tensor
    share: Tensor
    evidence: Tensor
    rules: list[str]


def decide_pairs(
    regions: ClaimRegions,
    scores: Tensor,
    image: Tensor | None,
    preference: Tensor | None,
    settings: OcclusionSettings,
) -> DecidedPairs:
    """Decides every overlapping pair by itself, and in which order they are taken."""
    overlaps, scores = regions.overlaps.cpu().numpy(), scores.cpu().double().numpy()
    pairs = np.argwhere(np.triu(overlaps, k=1))
    first, second = pairs.T
    shared, areas = overlaps[first, second], overlaps.diagonal()
    # Compared as quotients: rounding keeps "exactly 20%" equal to 0.2, which a product does not.
    share = np.maximum(shared / areas[first], shared / areas[second])
    occluded = share > settings.occlusion_thr

    first_in_front = scores[first] >= scores[second]
    decided_by = np.full(len(pairs), 'score', dtype=object)
    known = np.zeros_like(occluded)
    if preference is not None:
        wish = preference.cpu().numpy()[first, second]
        known = wish != 0
        first_in_front = np.where(known, wish > 0, first_in_front)
        decided_by[known] = 'preference'

    evidence = np.zeros_like(share)
    for rule in settings.rules:
        asked = (occluded & ~known).nonzero()[0]
        if len(asked) == 0:
            break
        given = torch.from_numpy(pairs[asked]).to(regions.size.device)
        found = rule.evidence(image, regions, given).cpu().numpy()
        tells = asked[found != 0]
        evidence[tells], known[tells] = found[found != 0], True
        decided_by[tells] = rule.name
    first_in_front = np.where(evidence == 0, first_in_front, evidence > 0)

    taken = (-np.maximum(scores[first], scores[second])).argsort(kind='stable')
    if settings.pairs == 'occluded_first':
        taken = taken[(~(occluded | known)[taken]).argsort(kind='stable')]
    pairs = np.where(first_in_front[:, None], pairs, pairs[:, ::-1])
    facts = (pairs, shared.astype(np.int64), share, np.abs(evidence))
    facts = (torch.from_numpy(fact[taken]) for fact in facts)
    return DecidedPairs(*facts, decided_by[taken].tolist())


def order_objects(pairs: Tensor, num_objects: int) -> tuple[Tensor, Tensor]:
    """Accepts (front, behind) pairs in the given order, except those that would close a cycle.

    Args:
        pairs: (M, 2) int64 on the CPU.
        num_objects: K.

    Returns:
        ``in_front`` (K, K) bool, True at [i, j] where i is in front of j, directly or
        through others, and ``accepted`` (M,) bool, False for the pairs that were set aside.
    """
    reach = np.eye(num_objects, dtype=bool)
    accepted = torch.ones(len(pairs), dtype=torch.bool)
    for place, (front, behind) in enumerate(pairs.tolist()):
        if reach[behind, front]:
            accepted[place] = False
        elif not reach[front, behind]:
            reach[reach[:, front] & ~reach[:, behind]] |= reach[behind]
    np.fill_diagonal(reach, False)
    return torch.from_numpy(reach), accepted


def remove_jointly(
    regions: ClaimRegions, front_to_back: Tensor, removal_thr: float
) -> tuple[Tensor, Tensor]:
    """Gives every region to its front-most claimant, then all again without those that lost much.

    Args:
        regions: The pixels and who claims them.
        front_to_back: (K,) int64, the objects; of any two that overlap, the one in front
            comes first.
        removal_thr: Share of an object's area, 0..1.

    Returns:
        ``owners`` (R,) int64, the owner of each region or -1, and ``keep`` (K,) bool.
    """
    claims = regions.members[:, front_to_back]
    owners = _front_most(claims, front_to_back)
    areas = regions.areas
    owned = areas.new_zeros(len(areas) + 1).index_add_(0, owners + 1, regions.size)[1:]
    lost = (areas - owned).double() / areas
    keep = (areas > 0) & ~(lost > removal_thr)
    return _front_most(claims & keep[front_to_back], front_to_back), keep


def remove_front_to_back(
    regions: ClaimRegions, front_to_back: Tensor, removal_thr: float
) -> tuple[Tensor, Tensor]:
    """Gives each object what is left of its mask, unless those before it took too much of it.

    Arguments and returns are those of :func:`remove_jointly`.
    """
    # Every object waits for the one before it: on the CPU, a GPU would wait K times for each.
    members, size = regions.members.cpu(), regions.size.cpu()
    owners = torch.full_like(size, -1)
    keep = torch.zeros(members.shape[1], dtype=torch.bool)
    for k in front_to_back.tolist():
        claimed, free = members[:, k], owners < 0
        area = int(size[claimed].sum())
        taken = int(size[claimed & ~free].sum())
        if area == 0 or taken / area > removal_thr:
            continue
        owners[claimed & free] = k
        keep[k] = True
    return owners.to(regions.size.device), keep


def _front_most(claims: Tensor, front_to_back: Tensor) -> Tensor:
    """(R,) int64: the first object of ``front_to_back`` that claims each region, (R, K), or -1."""
    # Nobody comes behind all of them. max() returns the first of equal values, argmax() may not.
    claims = F.pad(claims, (0, 1), value=True)
    place = claims.view(torch.uint8).max(dim=1).indices
    return F.pad(front_to_back, (0, 1), value=-1)[place]
