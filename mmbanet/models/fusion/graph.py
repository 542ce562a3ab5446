"""The occlusion graph: overlapping pairs of objects, how each is decided, and their common order.

Shapes: K objects, M overlapping pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Similarities this close are equal: far above the rounding errors of float64 over an image, far
# below what 8-bit colours can mean. Without it, rounding would decide between equal colours.
SIMILARITY_TIE = 1e-9


class OcclusionGraph(NamedTuple):
    """All overlapping pairs of K objects and what became of them; tensors on the CPU.

    Attributes:
        pairs (Tensor): (M, 2) int64, (front, behind) as the pair alone is decided, in the order in
            which pairs are taken: descending in the higher of the two scores.
        overlap (Tensor): (M,) int64, pixels that both claim.
        share (Tensor): (M,) float64 in 0..1, the overlap's share of the smaller area.
        similarity (Tensor): (M, 2) float64, of the front and of the object behind to the overlap;
            NaN where they were not compared.
        rules (list[str]): What decided each pair: ``'appearance'``, ``'smaller'``, ``'score'`` or
            ``'preference'``.
        accepted (Tensor): (M,) bool, False for a pair that was set aside because it contradicts
            pairs before it.
        in_front (Tensor): (K, K) bool, True at [i, j] where i is in front of j in the end, directly
            or through others.
        areas (Tensor): (K,) int64, pixels of each mask.
        keep (Tensor): (K,) bool, False for removed objects and for empty masks.
    """

    pairs: Tensor
    overlap: Tensor
    share: Tensor
    similarity: Tensor
    rules: list[str]
    accepted: Tensor
    in_front: Tensor
    areas: Tensor
    keep: Tensor


class DecidedPairs(NamedTuple):
    """The first five fields of :class:`OcclusionGraph`."""

    pairs: Tensor
    overlap: Tensor
    share: Tensor
    similarity: Tensor
    rules: list[str]


def decide_pairs(
    overlaps: Tensor,
    scores: Tensor,
    occlusion_thr: float = 1.0,
    similarity: Tensor | None = None,
    preference: Tensor | None = None,
    rule: str = 'appearance',
) -> DecidedPairs:
    """Decides every overlapping pair by itself; :func:`order_objects` settles contradictions.

    Args:
        overlaps (Tensor): (K, K) float64, shared pixels; the diagonal holds the areas.
        scores (Tensor): (K,).
        occlusion_thr (float): Pairs whose overlap is a larger share of either area are compared.
        similarity (Tensor, optional): (K, K) float64, at [i, j] of i to the overlap of i and j:
            the larger one is in front. Without it the score decides all pairs.
        preference (Tensor, optional): (K, K) int8, see :func:`resolve_occlusion`.
        rule (str): The name of a decision by similarity.
    """
    overlaps, scores = overlaps.cpu(), scores.cpu().double()
    first, second = overlaps.triu(diagonal=1).nonzero().unbind(dim=1)
    shared, areas = overlaps[first, second], overlaps.diagonal()
    # Compared as quotients: rounding keeps "exactly 20%" equal to 0.2, which a product does not.
    share = torch.maximum(shared / areas[first], shared / areas[second])

    first_in_front = scores[first] >= scores[second]
    compared = torch.zeros(len(first), 2, dtype=torch.float64).fill_(torch.nan)
    decided_by = np.full(len(first), 'score', dtype=object)
    if similarity is not None:
        similarity = similarity.cpu()
        occluded = share > occlusion_thr
        both = torch.stack([similarity[first, second], similarity[second, first]], dim=1)
        compared[occluded] = both[occluded]
        closer = both[:, 0] - both[:, 1]
        by_similarity = occluded & (closer.abs() > SIMILARITY_TIE)
        first_in_front = torch.where(by_similarity, closer > 0, first_in_front)
        decided_by[by_similarity.numpy()] = rule
    if preference is not None:
        wish = preference.cpu()[first, second]
        first_in_front = torch.where(wish != 0, wish > 0, first_in_front)
        decided_by[(wish != 0).numpy()] = 'preference'

    pairs = torch.stack([first, second], dim=1)
    pairs = torch.where(first_in_front[:, None], pairs, pairs.flip(1))
    compared = torch.where(first_in_front[:, None], compared, compared.flip(1))
    order = torch.maximum(scores[first], scores[second]).argsort(descending=True, stable=True)
    rules = decided_by[order.numpy()].tolist()
    return DecidedPairs(pairs[order], shared[order].long(), share[order], compared[order], rules)


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
            reach[reach[:, front] & ~reach[:, behind]] |= reach[behind]
    np.fill_diagonal(reach, False)
    return torch.from_numpy(reach), accepted
