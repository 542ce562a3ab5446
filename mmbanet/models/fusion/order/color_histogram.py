"""Order by appearance: a joint histogram of colours of each object."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .appearance import AppearanceRule, exclusive_sums


@MODELS.register_module()
class ColorHistogram(AppearanceRule):
    """Mean log-probability of the overlap's pixels in the object's joint RGB histogram.

    The histogram counts the pixels which the object alone claims: those of the overlap may be
    another object's.

    Args:
        bins: Bins per channel; the histogram has ``bins ** 3``.
        prior: Pixels that are added, spread evenly over all bins, so that an unseen colour
            is unlikely and not impossible.
        least_share: An object of which it claims less alone is described by all of its
            mask.
    """

    def __init__(self, bins: int = 8, prior: float = 8.0, least_share: float = 0.1) -> None:
        if not 1 <= bins <= 32:
            raise ValueError(f'bins must be in 1..32, got {bins}')
        if prior <= 0:
            raise ValueError(f'prior must be positive, got {prior}')
        if not 0 <= least_share <= 1:
            raise ValueError(f'least_share must be in 0..1, got {least_share}')
        self.bins = bins
        self.prior = prior
        self.least_share = least_share

    def fit(self, image: Tensor, regions: ClaimRegions) -> tuple[Tensor, Tensor]:
        """See :meth:`AppearanceRule.fit`; features are the bins, weights log-probabilities."""
        num_bins = self.bins**3
        level = (image.flatten(1).float() * (self.bins / 256)).long().clamp_(0, self.bins - 1)
        cell = (level[0] * self.bins + level[1]) * self.bins + level[2]
        cell += regions.index.flatten().long() * num_bins
        sums = torch.bincount(cell, minlength=len(regions.size) * num_bins)
        sums = sums.view(-1, num_bins).double()
        counts, total = exclusive_sums(sums, regions, self.least_share)
        probability = (counts + self.prior / num_bins) / (total + self.prior)
        return sums, probability.log()
