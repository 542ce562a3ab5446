"""Order by contour: of two overlapping objects, only the contour of the one in front is seen.

Shapes: K objects, M pairs, D = 2M contours (one object's, inside the other), P points of contours,
L lines along a contour, U places of a line, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .lab_gaussian import rgb_to_lab
from .order_rule import OrderRule

# Half the side of the square in which a point's normal is found, in steps.
NORMAL_RADIUS = 3
# Pixels of both objects that a side of a point must have for its colour to mean something.
LEAST_PLACES = 3
# Elements of (kinds of steps, contours) matrices that are in memory at once.
BLOCK = 1 << 22
# Fixed-point places: sums of integers do not depend on their order.
FRACTION = 2.0**28


@MODELS.register_module()
class ContourContrast(OrderRule):
    """Contrast of colours across each object's contour inside the other; the stronger is in front.

    Along an object's contour, as far as it runs inside the other object, lie points. At each, the
    mean Lab colour of the nearest pixels inside the object is compared with that of the nearest
    outside, both within the other object. The contrast is their distance, the less the more
    colours vary on either side: texture has edges everywhere. The strength of a contour is the
    geometric mean over its points (of 1 and more): a line all along counts for more than strong
    edges here and there. Where an object has no contour inside the other (it lies around the
    other, or the contours coincide), its strength is ``unseen``: a contour that is stronger than
    that lies in front, a weaker one behind. Distances are in steps that grow with the object, since
    so do the errors of its mask; hence the resolution of image and masks matters little.

    Args:
        least_strength: In Lab units (Delta E). The rule tells nothing where neither contour
            is as strong: contours that are not seen have about 3, of texture.
        least_difference: In Lab units. Nor does it where the strengths differ by less. With
            0 for both it decides wherever a contour is found.
        depth: Steps that each side is deep, along the normal.
        reach: Steps that each side reaches along the contour, in either direction.
        texture: Standard deviation of colours (Delta E) that halves the squared contrast;
            ``inf``: the plain distance of means.
        unseen: Strength of a contour that is not there.
        detail: An object of area ``detail ** 2`` pixels and less has steps of a pixel.
        max_points: Points of a contour, evenly spread, that are looked at.
    """

    def __init__(
        self,
        least_strength: float = 4.0,
        least_difference: float = 2.0,
        depth: int = 2,
        reach: int = 2,
        texture: float = 10.0,
        unseen: float = 6.0,
        detail: float = 60.0,
        max_points: int = 64,
    ) -> None:
        for name, value in (
            ('least_strength', least_strength),
            ('least_difference', least_difference),
            ('unseen', unseen),
        ):
            if not value >= 0:
                raise ValueError(f'{name} must be 0 or more, got {value}')
        for name, value in (('texture', texture), ('detail', detail)):
            if not value > 0:
                raise ValueError(f'{name} must be positive, got {value}')
        for name, value, least in (
            ('depth', depth, 1),
            ('reach', reach, 0),
            ('max_points', max_points, 1),
        ):
            if not value >= least:
                raise ValueError(f'{name} must be {least} or more, got {value}')
        self.least_strength = least_strength
        self.least_difference = least_difference
        self.depth = depth
        self.reach = reach
        self.texture = texture
        self.unseen = unseen
        self.detail = detail
        self.max_points = max_points

    def evidence(self, image: Tensor, regions: ClaimRegions, pairs: Tensor) -> Tensor:
        """See :meth:`OrderRule.evidence`; the difference of strengths, in Lab units."""
        own, other = self.strengths(image, regions, torch.cat([pairs, pairs.flip(1)])).chunk(2)
        difference = own.nan_to_num(self.unseen) - other.nan_to_num(self.unseen)
        told = torch.fmax(own, other) >= self.least_strength  # never where both are nan
        told &= difference.abs() >= self.least_difference
        return torch.where(told, difference, 0)

    def strengths(self, image: Tensor, regions: ClaimRegions, contours: Tensor) -> Tensor:
        """(D,) float64: how strong the contour of the first object is inside the second.

        Args:
            image: (3, H, W) RGB in 0..255.
            regions: The masks of K objects.
            contours: (D, 2) int64, objects.

        Returns:
            Lab units; nan where the contour has no point that can be looked at.
        """
        step = (regions.areas.double().sqrt() / self.detail).clamp_(min=1)
        places = _Places(regions, contours, step)
        contour, pixel = _contour_pixels(regions, contours)
        contour, pixel = _spread(contour, pixel, len(contours), self.max_points)
        normal = places.normals(contour, pixel)
        contrast = self._contrast(image, places, contour, pixel, normal)

        seen = ~contrast.isnan()
        fixed = (contrast[seen].log1p() * FRACTION).round_().long()
        total = fixed.new_zeros(len(contours)).index_add_(0, contour[seen], fixed)
        count = torch.bincount(contour[seen], minlength=len(contours))
        return (total.double() / FRACTION / count).expm1()  # 0 / 0 is nan

    def _contrast(
        self, image: Tensor, places: _Places, contour: Tensor, pixel: Tensor, normal: Tensor
    ) -> Tensor:
        """(P,) float64: the contrast at each point, nan where a side has too few pixels."""
        # The contour of a mask runs half a pixel outside its outermost pixels.
        lines = torch.arange(-self.depth, self.depth, device=pixel.device).double() + 0.5
        along = torch.arange(-self.reach, self.reach + 1, device=pixel.device).double()
        y, x, inside = places.grid(contour, pixel, normal, lines, along)
        rgb = image[:, y, x].flatten(1).double()
        # Multiples of 2 ** -10: their sums, and those of their squares, are exact in any order.
        lab = (rgb_to_lab(rgb) * 2**10).round_().view(3, *y.shape) / 2**10
        lab = torch.where(inside, lab, 0)
        sides = []
        for side in (slice(self.depth, None), slice(None, self.depth)):
            count = inside[:, side].sum(dim=(1, 2))
            divisor = count.clamp(min=1)
            mean = lab[:, :, side].sum(dim=(2, 3)) / divisor
            variance = lab[:, :, side].square().sum(dim=(2, 3)) / divisor - mean.square()
            variance = variance[0] + variance[1] + variance[2]
            sides.append((count, mean, variance.clamp(min=0)))
        (count, mean, variance), (other_count, other_mean, other_variance) = sides
        squared = (mean - other_mean).square()
        spread = (variance + other_variance) / self.texture**2
        contrast = ((squared[0] + squared[1] + squared[2]) / (1 + spread)).sqrt()
        enough = torch.minimum(count, other_count) >= LEAST_PLACES
        return torch.where(enough, contrast, torch.nan)


class _Places:
    """Looks up pixels around points of contours.

    Args:
        regions: The masks of K objects.
        contours: (D, 2) int64, (owner of the contour, the object that it runs in).
        step: (K,) float64, pixels per step, of each object.
    """

    def __init__(self, regions: ClaimRegions, contours: Tensor, step: Tensor) -> None:
        self.height, self.width = regions.index.shape
        self.index = regions.index
        self.members = regions.members
        self.owner, self.other = contours.unbind(dim=1)
        self.step = step[self.owner]

    def normals(self, contour: Tensor, pixel: Tensor) -> Tensor:
        """(P, 2) float64 (y, x), into the object: the mean offset of its pixels around, or 0."""
        around = torch.arange(-NORMAL_RADIUS, NORMAL_RADIUS + 1, device=pixel.device).double()
        offsets = torch.cartesian_prod(around, around)[None] * self.step[contour, None, None]
        offsets = offsets.round_().long()  # (P, 49, 2)
        y = (pixel // self.width)[:, None] + offsets[:, :, 0]
        x = (pixel % self.width)[:, None] + offsets[:, :, 1]
        own = self._is_of(self.owner[contour][:, None], *self._clamp(y, x))
        towards = (own[:, :, None] * offsets).sum(dim=1).double()
        length = towards.square().sum(dim=1, keepdim=True).sqrt_()
        return towards / length.clamp(min=1)

    def grid(
        self, contour: Tensor, pixel: Tensor, normal: Tensor, lines: Tensor, along: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest pixels to a grid along each normal.

        Args:
            contour: (P,) int64.
            pixel: (P,) int64.
            normal: (P, 2) float64.
            lines: (L,) float64, steps along the normal, from the contour.
            along: (U,) float64, steps along the contour.

        Returns:
            ``y`` and ``x`` (P, L, U) int64, within the image, and ``inside`` (P, L, U) bool,
            whether that is a pixel of the other object; False outside of the image and where there
            is no normal.
        """
        step = self.step[contour, None, None]
        across, along = step * lines[:, None] - 0.5, step * along
        ny, nx = normal[:, 0, None, None], normal[:, 1, None, None]
        y = ((pixel // self.width)[:, None, None] + (across * ny + along * nx).round_()).long()
        x = ((pixel % self.width)[:, None, None] + (across * nx - along * ny).round_()).long()
        within = (y >= 0) & (y < self.height) & (x >= 0) & (x < self.width)
        within &= (normal != 0).any(dim=1)[:, None, None]
        y, x = self._clamp(y, x)
        return y, x, within & self._is_of(self.other[contour][:, None, None], y, x)

    def _clamp(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest pixels of the image."""
        return y.clamp(0, self.height - 1), x.clamp(0, self.width - 1)

    def _is_of(self, objects: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Bool: whether the objects claim the pixels."""
        return self.members[self.index[y, x].long(), objects]


def _contour_pixels(regions: ClaimRegions, contours: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels at the edge of the first object of each contour that the second claims, too.

    The image's border is no edge.

    Returns:
        (P,) int64 contours in ascending order, and (P,) int64 pixels in that of the image.
    """
    index, members = regions.index, regions.members
    height, width = index.shape
    steps = []
    for dim, stride in ((0, width), (1, 1)):
        length = max(index.shape[dim] - 1, 0)
        first, second = index.narrow(dim, 0, length), index.narrow(dim, -length, length)
        y, x = (first != second).nonzero().unbind(dim=1)
        pixel, one, two = y * width + x, first[y, x].long(), second[y, x].long()
        steps += [(pixel, one, two), (pixel + stride, two, one)]
    pixel, here, there = (torch.cat(parts) for parts in zip(*steps))
    shared = regions.shared[here]
    pixel, here, there = pixel[shared], here[shared], there[shared]

    # There are few kinds of steps, from one region to another, and many of each kind.
    kind, kind_of_step, size = (here * len(members) + there).unique(
        return_inverse=True, return_counts=True
    )
    pixel = pixel[kind_of_step.argsort(stable=True)]
    start = size.cumsum(0) - size
    inside, outside = members[kind // len(members)], members[kind % len(members)]
    chosen = [pixel[:0]]
    block = max(BLOCK // max(len(kind), 1), 1)
    for begin in range(0, len(contours), block):
        own, other = contours[begin : begin + block].unbind(dim=1)
        leaves = inside[:, own] & inside[:, other] & ~outside[:, own]
        kinds, contour = leaves.nonzero().unbind(dim=1)
        count = size[kinds]
        place = torch.arange(int(count.sum()), device=pixel.device)
        place += (start[kinds] - count.cumsum(0) + count).repeat_interleave(count)
        code = (contour + begin).repeat_interleave(count) * (height * width) + pixel[place]
        chosen.append(code.unique())  # a pixel at a corner is left by several steps
    code = torch.cat(chosen)
    return code // max(height * width, 1), code % max(height * width, 1)


def _spread(contour: Tensor, pixel: Tensor, num_contours: int, most: int) -> tuple[Tensor, Tensor]:
    """At most so many of the points of each contour, evenly spread over its rows of pixels."""
    count = torch.bincount(contour, minlength=num_contours)
    rank = torch.arange(len(contour), device=contour.device) - (count.cumsum(0) - count)[contour]
    count = count[contour]
    # One point of every count / most: where the multiple of most passes one of count.
    kept = (count <= most) | (rank * most % count < most)
    return contour[kept], pixel[kept]
