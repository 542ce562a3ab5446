"""Rules that put the object in front whose colours explain the overlap better.

Shapes: K objects, M pairs, R regions of equal claims, F features.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from mmbanet.structures import ClaimRegions

from .order_rule import OrderRule

# Similarities this close are equal: far above the rounding errors of float64 over an image, far
# below what 8-bit colours can mean. Without it, rounding would decide between equal colours.
SIMILARITY_TIE = 1e-9


class AppearanceRule(OrderRule):
    """Compares the pixels of an overlap with each of the two objects.

    The similarity of an object to a set of pixels is the mean over them of ``weights . features``:
    the features are the pixel's, the weights are the object's. Features are summed over regions
    first, so that the similarities of all pairs are one small matrix product. The evidence is the
    difference of the two objects' similarities to their overlap.
    """

    @abstractmethod
    def fit(self, image: Tensor, regions: ClaimRegions) -> tuple[Tensor, Tensor]:
        """Describes objects and regions.

        Args:
            image: (3, H, W) RGB in 0..255.
            regions: The pixels and who claims them.

        Returns:
            ``sums`` (R, F) float64, the features summed over the pixels of each region, of
            which only the ``regions.shared`` are looked at, and ``weights`` (K, F) float64.
        """

    def evidence(self, image: Tensor, regions: ClaimRegions, pairs: Tensor) -> Tensor:
        """See :meth:`OrderRule.evidence`."""
        similarity = self.similarity(image, regions)
        first, second = pairs.unbind(dim=1)
        difference = similarity[first, second] - similarity[second, first]
        return torch.where(difference.abs() > SIMILARITY_TIE, difference, 0)

    def similarity(self, image: Tensor, regions: ClaimRegions) -> Tensor:
        """(K, K) float64: at [i, j], i != j, the similarity of i to the overlap of i and j."""
        sums, weights = self.fit(image, regions)
        total = regions.pair_sums(lambda rows: sums[rows] @ weights.T)
        return total.div_(regions.overlaps.clamp(min=1))


def exclusive_sums(
    sums: Tensor, regions: ClaimRegions, least_share: float
) -> tuple[Tensor, Tensor]:
    """Feature sums over the pixels that an object alone claims, which no other object can spoil.

    Args:
        sums: (R, F) float64.
        regions: The pixels and who claims them.
        least_share: An object of which less is claimed by it alone is described by all of
            its mask.

    Returns:
        (K, F) float64 and (K, 1) float64, the number of pixels, at least 1.
    """
    counts = torch.cat([sums, regions.size[:, None].double()], dim=1)
    whole, exclusive = regions.object_sums(counts), regions.object_sums(counts, ~regions.shared)
    enough = exclusive[:, -1:] >= least_share * whole[:, -1:]
    chosen = torch.where(enough, exclusive, whole)
    return chosen[:, :-1], chosen[:, -1:].clamp(min=1)
