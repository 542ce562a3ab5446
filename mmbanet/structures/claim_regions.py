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
import torch.nn.functional as F
from torch import Tensor

# Fixed-point places of a sum over pixels: see :meth:`ClaimRegions.pixel_sums`.
FRACTION_BITS = 28
# Pixels of a region: their sums of values up to 512 fit 63 bits.
MAX_REGION = 2 ** (63 - FRACTION_BITS - 9) - 1
# Pixels whose features are in memory at once: few for a CPU's cache, many for few kernel launches.
PIXEL_BLOCK = {'cpu': 1 << 15, 'cuda': 1 << 21}
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
        """Writes the claims on each pixel as the bits of a number; equal numbers are a region.

        A number has 63 bits: after every 50 objects or so, pixels are numbered anew by region. A
        GPU waits a few times for each such round, and never for an object.

        Args:
            masks: (N, H, W) bool.
            objects: (K,) int64, the masks that take part, in their order. All of
                them, K = N, if not given. Spares a copy of the masks.
        """
        objects = range(len(masks)) if objects is None else objects.tolist()
        height, width = masks.shape[1:]
        # All of the image is one region first, which takes no memory.
        index = torch.zeros(1, dtype=torch.int32, device=masks.device).expand(height, width)
        if index.numel() == 0:
            return cls(index, masks.new_zeros((0, len(objects))), index.flatten().long())
        size = torch.full((1,), index.numel(), device=masks.device)
        members = masks.new_zeros((1, 0))
        # Most objects are small: the CPU adds their own rows only. A GPU adds all at once.
        on_cpu = masks.device.type == 'cpu'
        rows = row_ranges(masks, objects) if on_cpu else [[0, height]] * len(objects)

        start = 0
        while start < len(objects):
            first_bit = len(size).bit_length()
            block = slice(start, start + 63 - first_bit)
            code = index.long()
            for bit, (k, (top, bottom)) in enumerate(zip(objects[block], rows[block]), first_bit):
                code[top:bottom].add_(masks[k, top:bottom], alpha=1 << bit)
            start = block.stop

            code = code.flatten()
            starts = _run_starts(code)
            lengths = _run_ends(starts, len(code)) - starts
            codes, region = code[starts].unique(return_inverse=True)
            del code
            index = region.int().repeat_interleave(lengths, output_size=index.numel())
            index = index.view(height, width)
            size = torch.zeros_like(codes).index_add_(0, region, lengths)
            bits = range(first_bit, first_bit + len(objects[block]))
            claims = [(codes & 1 << bit) != 0 for bit in bits]
            members = members[codes & (1 << first_bit) - 1]
            members = torch.cat([members, torch.stack(claims, dim=1)], dim=1)
        return cls(index.contiguous(), members, size)

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
        return self.overlaps.diagonal().long()

    @cached_property
    def overlaps(self) -> Tensor:
        """(K, K) float64: pixels that two objects share; the diagonal holds the objects' areas."""
        return self.pair_sums(lambda rows: self.size[rows, None].double())

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
        if self.index.numel() > MAX_REGION and self.size.max() > MAX_REGION:
            raise ValueError(
                f'an image may have {MAX_REGION} pixels of the same claims, got {self.size.max()}'
            )
        index, colours = self.index.flatten(), image.flatten(1)
        most = PIXEL_BLOCK.get(index.device.type, PIXEL_BLOCK['cuda'])
        blocks = max(
            -(-len(index) // most), 1
        )  # all of one size: none takes more memory than needed
        sums = None
        for region, colour in zip(index.chunk(blocks), colours.chunk(blocks, dim=1)):
            if where is not None:
                pixels = where.index_select(0, region).nonzero().squeeze(1)
                region, colour = region[pixels], colour[:, pixels]
            fixed = (features(colour.double()) * 2**FRACTION_BITS).round_().long()
            if sums is None:
                sums = fixed.new_zeros((len(fixed), len(self.size)))
            if region.is_cpu:
                for total, feature in zip(sums, fixed):
                    total.index_add_(0, region, feature)
            else:
                _add_runs(sums, region, fixed)
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
        """(K, K) float64: at [i, j], the sum of values over the regions that both claim.

        Args:
            values: Given a slice of r regions, float64 (r, K), their values for each
                object i, or (r, 1), the same for all objects.
        """
        return sum(
            (claims * values(rows)).T @ claims
            for rows in _blocks(self.members)
            for claims in (self.members[rows].double(),)
        )


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


def _run_starts(values: Tensor) -> Tensor:
    """(S,) int64: where runs of equal values (P,) start."""
    is_start = torch.ones_like(values, dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=is_start[1:])
    return is_start.nonzero().squeeze(1)


def _run_ends(starts: Tensor, count: int) -> Tensor:
    """(S,) int64: where the runs of P values that start there end, exclusively."""
    return F.pad(starts, (0, 1), value=count)[1:]


def _add_runs(sums: Tensor, region: Tensor, values: Tensor) -> None:
    """Adds integers (F, P) to ``sums`` (F, R) at the regions of the pixels, (P,).

    Runs of pixels are added up first: a GPU's additions to one number wait for each other.
    """
    starts = _run_starts(region)
    last = _run_ends(starts, len(region)) - 1
    # One running sum over all features: it may overflow, differences of it do not.
    running = values.flatten().cumsum_(0).view(values.shape)[:, last].flatten()
    added = running.diff(prepend=running.new_zeros(1))
    first = torch.arange(len(sums), device=sums.device) * sums.shape[1]
    sums.view(-1).index_add_(0, (first[:, None] + region[starts]).flatten(), added)
