"""The image cut into regions: sets of pixels that are claimed by the same objects.

Objects overlap in few ways, so an image of a million pixels has some hundred such regions. Whatever
overlap handling needs (areas, overlaps, colour sums, owners) is the same for all pixels of a
region: pixels are visited once, and the rest is done on small matrices.

Shapes: K objects, R regions, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ClaimRegions(NamedTuple):
    """A partition of the image's pixels by the set of objects that claim them.

    Attributes:
        index (Tensor): (H, W) int64, the region of each pixel.
        members (Tensor): (R, K) bool, the objects that claim a region's pixels. No two rows are
            equal; at most one row is empty, that of the pixels that nobody claims.
        size (Tensor): (R,) int64, the region's number of pixels, at least 1.
    """

    index: Tensor
    members: Tensor
    size: Tensor


def partition_by_claims(masks: Tensor) -> ClaimRegions:
    """Cuts the image into regions, object by object: each splits the regions that it touches.

    Args:
        masks (Tensor): (K, H, W) bool, with H and W of at least 1.
    """
    num_objects, height, width = masks.shape
    index = torch.zeros(height * width, dtype=torch.int64, device=masks.device)
    num_regions, splits = 1, []
    for mask, (top, bottom) in zip(masks, _row_ranges(masks)):
        # A search through the mask's own rows only: for small objects it is most of the work.
        pixels = mask[top:bottom].reshape(-1).nonzero().squeeze(1) + top * width
        old = index[pixels]
        split = torch.bincount(old, minlength=num_regions).nonzero().squeeze(1)
        renamed = index.new_zeros(num_regions)
        renamed[split] = torch.arange(num_regions, num_regions + len(split), device=index.device)
        index[pixels] = renamed[old]
        num_regions += len(split)
        splits.append(split)

    members = torch.zeros((num_regions, num_objects), dtype=torch.bool, device=masks.device)
    start = 1
    for k, split in enumerate(splits):
        rows = slice(start, start + len(split))
        members[rows] = members[split]
        members[rows, k] = True
        start = rows.stop

    # A region that an object took whole is left without pixels: drop it.
    size = torch.bincount(index, minlength=num_regions)
    filled = size > 0
    new_index = filled.cumsum(0) - 1
    return ClaimRegions(new_index[index].view(height, width), members[filled], size[filled])


def sum_over_regions(values: Tensor, index: Tensor, num_regions: int, fraction_bits: int) -> Tensor:
    """Sums ``values`` over the pixels of each region, in any order with the same result.

    Floating-point sums depend on their order, which differs between devices and numbers of
    threads. These are sums of integers: multiples of ``2 ** -fraction_bits``.

    Args:
        values (Tensor): (C, P), the values of P pixels.
        index (Tensor): (P,) int64, the region of each of them.
        num_regions (int): R.
        fraction_bits (int): ``max(abs(values)) * P * 2 ** fraction_bits`` must stay under 2 ** 63.

    Returns:
        Tensor: (R, C) float64.
    """
    sums = index.new_zeros((len(values), num_regions))
    for total, channel in zip(sums, values):
        fixed = (channel.double() * 2**fraction_bits).round_().long()
        total.index_add_(0, index, fixed)
    return sums.T.double() / 2**fraction_bits


def nobody(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The ``(owner, keep)`` of a scene without any claimed pixel."""
    owner = torch.full(masks.shape[1:], -1, dtype=torch.int64, device=masks.device)
    return owner, torch.zeros(len(masks), dtype=torch.bool, device=masks.device)


def _row_ranges(masks: Tensor) -> list[list[int]]:
    """[first row, last row + 1] of every mask; [0, 0] or another empty range for an empty mask."""
    height = masks.shape[1]
    filled = masks.view(torch.uint8).amax(dim=2).bool()
    row = torch.arange(height, device=masks.device)
    bottom = torch.where(filled, row + 1, 0).amax(dim=1)
    top = torch.where(filled, row, height).amin(dim=1).minimum(bottom)
    return torch.stack([top, bottom], dim=1).tolist()
