"""Order by appearance: a Gaussian in CIELAB of each object."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .appearance import AppearanceRule, exclusive_sums

# Linear sRGB to XYZ relative to the white point D65 (IEC 61966-2-1).
XYZ_OF_RGB = (
    (0.412453 / 0.950456, 0.357580 / 0.950456, 0.180423 / 0.950456),
    (0.212671, 0.715160, 0.072169),
    (0.019334 / 1.088754, 0.119193 / 1.088754, 0.950227 / 1.088754),
)
SCALE = 16.0  # Lab units per unit of the features: keeps products small, and is exact


@MODELS.register_module()
class LabGaussian(AppearanceRule):
    """Mean log-likelihood of the overlap's pixels under a Gaussian of the object's Lab colours.

    The Gaussian is that of the pixels which the object alone claims: those of the overlap may be
    another object's. The log-likelihood is a quadratic polynomial of the pixel, hence linear in
    the products of its coordinates.

    Args:
        noise: Standard deviation in Lab units that is added to the object's own: the least
            difference in colour that counts.
        least_share: An object of which it claims less alone is described by all of its
            mask.
    """

    def __init__(self, noise: float = 12.0, least_share: float = 0.1) -> None:
        if noise <= 0:
            raise ValueError(f'noise must be positive, got {noise}')
        if not 0 <= least_share <= 1:
            raise ValueError(f'least_share must be in 0..1, got {least_share}')
        self.noise = noise
        self.least_share = least_share

    def fit(self, image: Tensor, regions: ClaimRegions) -> tuple[Tensor, Tensor]:
        """See :meth:`AppearanceRule.fit`; features are 1, the coordinates and their products."""
        sums = regions.pixel_sums(image, _monomials)
        moments, count = exclusive_sums(sums, regions, self.least_share)
        moments = moments / count
        mean, second = moments[:, 1:4], moments[:, 4:].view(-1, 3, 3)
        noise = (self.noise / SCALE) ** 2 * torch.eye(3, dtype=mean.dtype, device=mean.device)
        covariance = second - mean[:, :, None] * mean[:, None, :] + noise
        precision = torch.linalg.inv(covariance)
        pulled = (precision @ mean[:, :, None]).squeeze(2)
        constant = (mean * pulled).sum(dim=1) + torch.logdet(covariance)
        weights = [-0.5 * constant[:, None], pulled, -0.5 * precision.flatten(1)]
        return sums, torch.cat(weights, dim=1)


def _monomials(rgb: Tensor) -> Tensor:
    """(13, P): 1, the Lab coordinates and all products of two of them, in units of ``SCALE``."""
    lab = rgb_to_lab(rgb) / SCALE
    products = (lab[:, None] * lab[None]).flatten(0, 1)
    return torch.cat([torch.ones_like(lab[:1]), lab, products])


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """CIELAB (3, P) (L in 0..100) of sRGB (3, P) in 0..255, white point D65."""
    srgb = (rgb / 255).clamp(min=0)
    linear = torch.where(srgb > 0.04045, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    xyz = linear.new_tensor(XYZ_OF_RGB) @ linear
    f = torch.where(xyz > 0.008856, xyz.clamp(min=0.008856) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])
