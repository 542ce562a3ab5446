"""The things of an image with who is in front of whom, whatever file says so.

Shapes: K things, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class OrderedThings(NamedTuple):
    """Overlapping things, of which the order is known pair by pair.

    Attributes:
        file_name: Of the image, as the annotation file has it.
        categories: (K,) int64, the same number for things of a class.
        masks: (K, H, W) bool, that may overlap.
        owner: (H, W) int64, the thing that is seen, -1 for none.
        order: (K, K) int8, antisymmetric: 1 at [i, j] where i is in front of j, 0 where nothing is
            known.
    """

    file_name: str
    categories: np.ndarray
    masks: np.ndarray
    owner: np.ndarray
    order: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(front, behind) of every pair whose order is known."""
        return [(int(i), int(j)) for i, j in np.argwhere(self.order > 0)]


def order_by_rank(
    masks: np.ndarray, ranks: np.ndarray, clusters: np.ndarray | None = None
) -> np.ndarray:
    """(K, K) int8: of two masks that share a pixel, the one of the lower rank is in front.

    Args:
        masks: (K, H, W) bool.
        ranks: (K,), equal where the order is not known.
        clusters: (K,), in which ranks can be compared. All of them if not given.
    """
    claims = masks.reshape(len(masks), -1).astype(np.float32) if len(masks) else np.zeros((0, 1))
    known = claims @ claims.T > 0
    if clusters is not None:
        known &= np.equal.outer(clusters, clusters)
    return (known * np.sign(np.subtract.outer(ranks, ranks) * -1)).astype(np.int8)


def owner_of(visible: np.ndarray) -> np.ndarray:
    """(H, W) int64: the first of the visible masks (K, H, W) that holds the pixel, or -1."""
    owner = np.full(visible.shape[1:], -1, dtype=np.int64)
    for k in reversed(range(len(visible))):
        owner[visible[k]] = k
    return owner
