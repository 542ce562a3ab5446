"""Which pairs of objects the classifier is asked about, and what it learns of them.

Shapes: K objects, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def considered_pairs(
    overlaps: Tensor,
    labels: Tensor,
    occlusion_thr: float,
    *,
    symmetric: bool = True,
    same_class: bool = False,
) -> Tensor:
    """Pairs that overlap by at least a share of one of the masks.

    Args:
        overlaps: (K, K), pixels that two objects share; on the diagonal the objects' areas.
        labels: (K,), classes.
        occlusion_thr: 0..1, rho in the paper.
        symmetric: Whether the share may be of either mask, else of that of the later object.
        same_class: Whether objects of one class are asked about.

    Returns:
        (P, 2) int64, of each pair the later object and the earlier one.
    """
    large = overlaps / overlaps.diagonal().clamp(min=1)[:, None] >= occlusion_thr
    if symmetric:
        large = large | large.T
    considered = large & (overlaps > 0)
    if not same_class:
        considered &= labels[:, None] != labels
    return considered.tril(diagonal=-1).nonzero()


def pairs_to_learn(pairs: Tensor, order: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Some of the pairs whose order is known, both ways round.

    Args:
        pairs: (P, 2) int64.
        order: (K, K) int8, 1 at [i, j] where i is in front of j, -1 where it is behind, 0 where
            nothing is known.
        limit: At most that many pairs, by chance, before they are turned round.

    Returns:
        The pairs (Q, 2), and whether the first of each is in front, (Q,) float32 of 0 and 1.
    """
    known = order[pairs[:, 0], pairs[:, 1]]
    pairs, known = pairs[known != 0], known[known != 0]
    if len(pairs) > limit:
        chosen = torch.randperm(len(pairs))[:limit].to(pairs.device)
        pairs, known = pairs[chosen], known[chosen]
    in_front = (known > 0).float()
    return torch.cat([pairs, pairs.flip(1)]), torch.cat([in_front, 1 - in_front])
