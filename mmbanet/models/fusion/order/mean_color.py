"""The paper's order rule (section 3.3): cosines between RGB vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .appearance import AppearanceRule

# An RGB vector (0..255) this short is black. Exactly 0 would miss the black of a normalised
# float32 image, which comes back as noise of 1e-5 whose direction means nothing.
BLACK = 1e-3


@MODELS.register_module()
class MeanColor(AppearanceRule):
    """Mean cosine between the pixels' RGB and the mean RGB of the object's whole mask.

    The mean cosine is linear in unit vectors, ``mean cos(x, m) = m/|m| . mean(x/|x|)``. Black has
    the cosine 0 with anything.
    """

    def fit(self, image: Tensor, regions: ClaimRegions) -> tuple[Tensor, Tensor]:
        """See :meth:`AppearanceRule.fit`; features are unit vectors, weights the mean RGB's."""
        rgb_sums = regions.pixel_sums(image, lambda rgb: rgb)
        # A mean has the direction of its sum; the mean's length tells black.
        mean = regions.object_sums(rgb_sums) / regions.areas.clamp(min=1)[:, None]
        # Times 256: fixed-point sums resolve large values better, and a power of two is exact.
        unit_sums = regions.pixel_sums(image, lambda rgb: _unit(rgb, 0) * 256, regions.shared)
        return unit_sums / 256, _unit(mean, 1)


def _unit(vectors: Tensor, dim: int) -> Tensor:
    """Vectors of length 1, or 0 for black."""
    length = vectors.square().sum(dim=dim, keepdim=True).sqrt_()
    return vectors * torch.where(length > BLACK, 1 / length, 0)
