"""The occlusion graph: overlapping pairs of objects, how each was decided, and their common order.

Shapes: K objects, M overlapping pairs, D dropped objects.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class OcclusionGraph(NamedTuple):
    """All overlapping pairs of K objects and what became of them; tensors on the CPU.

    Attributes:
        pairs: (M, 2) int64, (front, behind) as the pair alone is decided, in the order in
            which pairs are taken.
        overlap: (M,) int64, pixels that both claim.
        share: (M,) float64 in 0..1, the overlap's share of the smaller area.
        evidence: (M,) float64, what the order rule that decided the pair found in favour
            of the front, in the rule's own unit; 0 where no rule decided.
        rules: What decided each pair: the name of an order rule such as
            ``'MeanColor'``, ``'score'`` or ``'preference'``.
        accepted: (M,) bool, False for a pair that was set aside because it contradicts
            pairs before it.
        in_front: (K, K) bool, True at [i, j] where i is in front of j in the end, directly
            or through others.
        areas: (K,) int64, pixels of each mask.
        keep: (K,) bool, False for removed and dropped objects and for empty masks.
        duplicates: (D, 2) int64, (dropped, kept): objects that were dropped before pairs were
            decided, since they are others once more, see
            :class:`~mmbanet.models.fusion.DuplicateFilter`. The dropped are in no pair.
        alike: (D, 2) float64, why: the IoU of those two, and the share of the smaller one that
            both claim.
    """

    pairs: Tensor
    overlap: Tensor
    share: Tensor
    evidence: Tensor
    rules: list[str]
    accepted: Tensor
    in_front: Tensor
    areas: Tensor
    keep: Tensor
    duplicates: Tensor
    alike: Tensor
