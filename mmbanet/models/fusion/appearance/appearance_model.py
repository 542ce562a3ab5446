"""What an appearance model is: a function of pixels for each object, averaged over overlaps.

Shapes: K objects, R regions of equal claims (see ``regions.py``), F features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..regions import ClaimRegions, object_sums, pair_sums


class AppearanceModel(ABC):
    """Compares the pixels of an overlap with each of the two objects.

    The similarity of an object to a set of pixels is the mean over them of ``weights . features``:
    the features are the pixel's, the weights are the object's. Features are summed over regions
    first, so that the similarities of all pairs are one small matrix product. To add a model,
    subclass this and register it in ``mmbanet.registry.MODELS``.
    """

    @abstractmethod
    def fit(self, image: Tensor, regions: ClaimRegions) -> tuple[Tensor, Tensor]:
        """Describes objects and regions.

        Args:
            image (Tensor): (3, H, W) RGB in 0..255.
            regions (ClaimRegions): The pixels and who claims them.

        Returns:
            tuple: ``sums`` (R, F) float64, the features summed over the pixels of each region, of
            which only the ``regions.shared`` are looked at, and ``weights`` (K, F) float64.
        """

    def similarity(self, image: Tensor, regions: ClaimRegions, overlaps: Tensor) -> Tensor:
        """(K, K) float64: at [i, j] the similarity of i to the overlap of i and j.

        Args:
            image (Tensor): (3, H, W) RGB in 0..255.
            regions (ClaimRegions): The pixels and who claims them.
            overlaps (Tensor): (K, K) float64, see :func:`pair_overlaps`.
        """
        sums, weights = self.fit(image, regions)
        shared = regions.shared
        sums = sums[shared]
        mean = pair_sums(regions.members[shared], lambda block: sums[block] @ weights.T)
        return mean.div_(overlaps.clamp(min=1))


def exclusive_sums(
    sums: Tensor, regions: ClaimRegions, least_share: float
) -> tuple[Tensor, Tensor]:
    """Feature sums over the pixels that an object alone claims, which no other object can spoil.

    Args:
        sums (Tensor): (R, F) float64.
        regions (ClaimRegions): The pixels and who claims them.
        least_share (float): An object of which less is claimed by it alone is described by all of
            its mask.

    Returns:
        tuple: (K, F) float64 and (K, 1) float64, the number of pixels, at least 1.
    """
    alone = regions.members & ~regions.shared[:, None]
    counts = torch.cat([sums, regions.size[:, None].double()], dim=1)
    whole, exclusive = object_sums(counts, regions.members), object_sums(counts, alone)
    enough = exclusive[:, -1:] >= least_share * whole[:, -1:]
    chosen = torch.where(enough, exclusive, whole)
    return chosen[:, :-1], chosen[:, -1:].clamp(min=1)
