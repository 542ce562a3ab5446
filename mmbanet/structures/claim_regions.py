"""The image cut into regions: sets of pixels that are claimed by the same objects.

Objects overlap in few ways, so an image of a million pixels has some hundred such regions. Whatever
occlusion handling needs (areas, overlaps, colour sums, owners) is the same for all pixels of a
region: pixels are visited once, and the rest is done on small matrices.

Shapes: K objects, R regions, H x W pixels, F features of a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Fixed-point places of a sum over pixels: see :meth:`ClaimRegions.pixel_sums`.
FRACTION_BITS = 28
# Pixels of a region: their sums of values up to 512 fit 63 bits.
MAX_REGION = 2 ** (63 - FRACTION_BITS - 9) - 1
# Pixels whose features are in memory at once: few for a CPU's cache, many for few kernel launches.
PIXEL_BLOCK = {'cpu': 1 << 15, 'cuda': 1 << 20}
# Elements of (regions, objects) matrices that are float64 at once.
MEMBER_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class ClaimRegions:
    """A partition of the image's pixels by the set of objects that claim them.

    Attributes:
        index: (H, W) int32, the region of each pixel.
        members: (R, K) bool, the objects that claim a region's pixels. No two rows are
            equal; at most one row is empty, that of the pixels that nobody claims.
        size: (R,) int64, the region's number of pixels, at least 1.
    """

    index: Tensor
    members: Tensor
    size: Tensor

    @classmethod
    def from_masks(cls, masks: Tensor, objects: Tensor | None = None) -> ClaimRegions:
        """Cuts the image object by object: each splits the regions that it takes part of.

        Args:
            masks: (N, H, W) bool.
            objects: (K,) int64, the masks that take part, in their order. All of
                them, K = N, if not given. Spares a copy of the masks.
        """
        objects = range(len(masks)) if objects is None else objects.tolist()
        height, width = masks.shape[1:]
        index = torch.zeros(height * width, dtype=torch.int32, device=masks.device)
        if len(index) == 0:
            members = masks.new_zeros((0, len(objects)))
            return cls(index.view(height, width), members, index.long())
        size = torch.tensor([height * width], device=masks.device)
        whole, split = [], []
        for mask, (top, bottom) in zip((masks[k] for k in objects), row_ranges(masks, objects)):
            # A search through the mask's own rows only: for small objects it is most of the work.
            pixels = mask[top:bottom].reshape(-1).nonzero().squeeze(1) + top * width
            old = index[pixels]
            taken = torch.bincount(old, minlength=len(size))
            touched = taken.nonzero().squeeze(1)
            is_part = taken[touched] < size[touched]
            part = touched[is_part]
            renamed = torch.arange(len(size), dtype=index.dtype, device=index.device)
            fresh = torch.arange(len(part), dtype=index.dtype, device=index.device) + len(size)
            renamed[part] = fresh
            index[pixels] = renamed.index_select(0, old)
            size[part] -= taken[part]
            size = torch.cat([size, taken[part]])
            whole.append(touched[~is_part])
            split.append(part)

        members = torch.zeros((len(size), len(split)), dtype=torch.bool, device=masks.device)
        start = 1
        for k, part in enumerate(split):
            new = slice(start, start + len(part))
            members[new] = members[part]
            members[new, k] = True
            members[whole[k], k] = True
            start = new.stop
        return cls(index.view(height, width), members, size)

    def without(self, objects: Tensor) -> ClaimRegions:
        """The regions if these objects, (D,) int64, claimed nothing; no index changes."""
        members = self.members.clone()
        members[:, objects.to(members.device)] = False
        members, renamed = members.unique(dim=0, return_inverse=True)
        size = self.size.new_zeros(len(members)).index_add_(0, renamed, self.size)
        index = renamed.to(self.index.dtype).index_select(0, self.index.flatten())
        return ClaimRegions(index.view(self.index.shape), members, size)

    @cached_property
    def shared(self) -> Tensor:
        """(R,) bool: regions that two objects or more claim."""
        return self.members.sum(dim=1) > 1

    @cached_property
    def areas(self) -> Tensor:
        """(K,) int64: pixels of each object's mask."""
        return self.object_sums(self.size[:, None]).squeeze(1).long()

    @cached_property
    def overlaps(self) -> Tensor:
        """(K, K) float64: pixels that two objects share; the diagonal holds the objects' areas."""
        overlaps = self.pair_sums(lambda rows: self.size[rows, None].double())
        overlaps.diagonal().copy_(self.areas)
        return overlaps

    def pixel_sums(
        self,
        image: Tensor,
        features: Callable[[Tensor], Tensor],
        where: Tensor | None = None,
    ) -> Tensor:
        """Sums of the pixels' features over each region, in any order with the same result.

        Floating-point sums depend on their order, which differs between devices and numbers of
        threads. These are sums of integers: multiples of ``2 ** -28``, of 2 ** 26 pixels at most.

        Args:
            image: (3, H, W).
            features: Given float64 (3, P), the colours of P pixels, float64 (F, P), of
                values in -512..512.
            where: (R,) bool, the regions that matter; others get 0. All by
                default.

        Returns:
            (R, F) float64.

        Raises:
            ValueError: A sum could overflow: a region has more pixels.
        """
        if self.size.max() > MAX_REGION:
            raise ValueError(
                f'an image may have {MAX_REGION} pixels of the same claims, got {self.size.max()}'
            )
        index, colours = self.index.flatten(), image.flatten(1)
        step = PIXEL_BLOCK.get(index.device.type, PIXEL_BLOCK['cuda'])
        sums = None
        for start in range(0, len(index), step):
            block = slice(start, start + step)
            region, colour = index[block], colours[:, block]
            if where is not None:
                pixels = where.index_select(0, region).nonzero().squeeze(1)
                region, colour = region[pixels], colour[:, pixels]
            fixed = (features(colour.double()) * 2**FRACTION_BITS).round_().long()
            if sums is None:
                sums = fixed.new_zeros((len(fixed), len(self.size)))
            for total, feature in zip(sums, fixed):
                total.index_add_(0, region, feature)
        return sums.T.double() / 2**FRACTION_BITS

    def object_sums(self, values: Tensor, where: Tensor | None = None) -> Tensor:
        """(K, F) float64: values (R, F) added up over the regions of each object.

        Args:
            values: (R, F).
            where: (R,) bool, the regions that count. All by default.
        """
        members = self.members if where is None else self.members & where[:, None]
        return sum(members[rows].double().T @ values[rows].double() for rows in _blocks(members))

    def pair_sums(self, values: Callable[[Tensor], Tensor]) -> Tensor:
        """(K, K) float64: at [i, j], i != j, the sum of values over the regions that both claim.

        Args:
            values: Given (r,) int64 regions, float64 (r, K), their values for each
                object i, or (r, 1), the same for all objects.
        """
        shared = self.shared.nonzero().squeeze(1)
        members = self.members[shared]
        num_objects = members.shape[1]
        sums = torch.zeros((num_objects, num_objects), dtype=torch.float64, device=members.device)
        for rows in _blocks(members):
            claims = members[rows].double()
            sums += (claims * values(shared[rows])).T @ claims
        return sums


def row_ranges(masks: Tensor, objects: range | list[int]) -> list[list[int]]:
    """[first row, last row + 1] of each of some masks (K, H, W); an empty range if it is empty."""
    if not objects:
        return []
    height = masks.shape[1]
    filled = torch.stack([masks[k].view(torch.uint8).amax(dim=1) for k in objects]).bool()
    row = torch.arange(height, device=masks.device)
    bottom = torch.where(filled, row + 1, 0).amax(dim=1)
    top = torch.where(filled, row, height).amin(dim=1).minimum(bottom)
    return torch.stack([top, bottom], dim=1).tolist()


def _blocks(members: Tensor) -> list[slice]:
    """Slices of the regions, so that float64 copies stay small when masks are noise."""
    num_regions, num_objects = members.shape
    step = max(MEMBER_BLOCK // max(num_objects, 1), 1)
    return [slice(start, start + step) for start in range(0, max(num_regions, 1), step)]
