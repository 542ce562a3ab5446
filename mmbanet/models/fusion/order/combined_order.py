"""Order by all that is known: a logistic model of what the rules find and where the masks lie.

Shapes: K objects, M pairs, R regions of equal claims, H x W pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .color_histogram import ColorHistogram
from .combined_weights import WEIGHTS
from .contour_contrast import ContourContrast
from .order_rule import OrderRule

# Evidence of log-likelihoods beyond this says no more: a few odd pixels make it as large as wanted.
MOST_NATS = 4.0
# A difference of heights in the image means something from this share of the objects' heights on.
GROUND_SHARE = 0.1
# Evidence comes in multiples of 2 ** -20: devices round logarithms differently.
FRACTION = 2.0**20

CONTOUR = ContourContrast()
HISTOGRAM = ColorHistogram()


@MODELS.register_module()
class CombinedOrder(OrderRule):
    """Probability that the first is in front, learned from scenes composed of photographs.

    The evidence is the logit: the sum of the features of :meth:`features` by their weights in
    ``combined_weights.py``, which ``tools/benchmarks/fit_order.py`` writes. Every feature is that
    of one object minus that of the other and there is no constant, so the rule is antisymmetric.

    Args:
        least_probability: The rule tells nothing of a pair of which it is less sure, 0.5..1.
        ground: Whether what stands lower in the image is likely to be nearer. So it is where things
            stand on the ground before a level camera, and in scenes that are composed so; without
            it, only appearance, contours and shapes count.
    """

    def __init__(self, least_probability: float = 0.5, ground: bool = True) -> None:
        if not 0.5 <= least_probability < 1:
            raise ValueError(
                f'least_probability must be in 0.5..1, below 1, got {least_probability}'
            )
        if not isinstance(ground, bool):
            raise TypeError(f'ground must be True or False, got {ground!r}')
        self.least_probability = least_probability
        self.ground = ground

    def evidence(self, image: Tensor, regions: ClaimRegions, pairs: Tensor) -> Tensor:
        """See :meth:`OrderRule.evidence`; the logit of the probability."""
        weights = WEIGHTS['ground' if self.ground else 'no_ground']
        features = self.features(image, regions, pairs)
        logit = sum(weight * features[name] for name, weight in weights.items())
        logit = (logit * FRACTION).round_() / FRACTION
        least = math.log(self.least_probability / (1 - self.least_probability))
        return torch.where(logit.abs() >= least, logit, 0)

    @staticmethod
    def features(image: Tensor, regions: ClaimRegions, pairs: Tensor) -> dict[str, Tensor]:
        """What is weighed, by name (M,) float64; of the pair (j, i) with the sign turned.

        * ``contour``: logarithm of (1 +) the strength of each object's contour inside the other;
        * ``histogram``: evidence of :class:`ColorHistogram`, in nats a pixel, limited;
        * ``area``: logarithm of the areas, the smaller in front;
        * ``share``: of each object that the other claims, too;
        * ``ground``: how much lower it ends in the image, for the heights of both, within -1..1;
        * ``ground_low``: the same, times how far below the middle of the image the lower one ends:
          what hangs above the horizon stands on no ground.

        Args:
            image: (3, H, W) RGB in 0..255.
            regions: The masks of K objects.
            pairs: (M, 2) int64.
        """
        first, second = pairs.unbind(dim=1)
        strength = CONTOUR.strengths(image, regions, torch.cat([pairs, pairs.flip(1)]))
        own, other = strength.nan_to_num(CONTOUR.unseen).log1p().chunk(2)
        histogram = HISTOGRAM.evidence(image, regions, pairs).clamp(-MOST_NATS, MOST_NATS)
        area = regions.areas.double().clamp(min=1)
        shared = regions.overlaps[first, second]
        top, bottom = vertical_extent(regions)
        height = (bottom - top).clamp(min=1)
        size = (height[first].square() + height[second].square()).sqrt()
        ground = ((bottom[first] - bottom[second]) / (GROUND_SHARE * size)).tanh()
        lowest = torch.maximum(bottom[first], bottom[second]) / max(regions.index.shape[0], 1)
        return dict(
            contour=own - other,
            histogram=histogram,
            area=area[second].log() - area[first].log(),
            share=shared / area[first] - shared / area[second],
            ground=ground,
            ground_low=ground * (lowest - 0.5),
        )


def vertical_extent(regions: ClaimRegions) -> tuple[Tensor, Tensor]:
    """First row, and last row + 1, of each of K objects, float64; 0 and 0 where it has no pixel."""
    index, height = regions.index, regions.index.shape[0]
    if index.numel() == 0:
        nothing = torch.zeros(regions.members.shape[1], dtype=torch.float64, device=index.device)
        return nothing, nothing
    # Each run of pixels of one region along a row counts once.
    begins = torch.ones_like(index, dtype=torch.bool)
    begins[:, 1:] = index[:, 1:] != index[:, :-1]
    row, column = begins.nonzero().unbind(dim=1)
    region = index[row, column].long()
    first = torch.full_like(regions.size, height).scatter_reduce_(0, region, row, 'amin')
    last = torch.zeros_like(regions.size).scatter_reduce_(0, region, row + 1, 'amax')
    # The extremes of an object are those of its regions.
    bottom = torch.where(regions.members, last[:, None], 0).amax(dim=0)
    top = torch.where(regions.members, first[:, None], height).amin(dim=0)
    return torch.minimum(top, bottom).double(), bottom.double()
