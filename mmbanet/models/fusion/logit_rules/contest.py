"""Instances that compete for pixels with one value each, inside their boxes.

Shapes: K instances, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .boxes import Window

OUTSIDE = ('zero', 'exclude')


class Contest:
    """The largest value of any instance at each pixel, and whose it is.

    Args:
        size: H and W.
        outside: What an instance is worth outside of its box: ``'zero'``, as the papers have it,
            or ``'exclude'``, nothing: it cannot win there.
        device: Of the maps.
    """

    def __init__(self, size: tuple[int, int], outside: str, device: torch.device) -> None:
        self.outside = outside
        #: (H, W): the largest value, -inf where there is no instance.
        self.best = torch.full(size, -torch.inf, device=device)
        #: (H, W) int64: whose it is, the first one's of equals, or -1.
        self.owner = torch.full(size, -1, device=device)
        self.count = 0
        # Only where all have had a box can an absent one's zero be the largest.
        self._all_present: Window = tuple(slice(0, n) for n in size)

    def enter(self, window: Window, values: Tensor) -> None:
        """The next instance, with its values in the window of its box."""
        self._compare(window, values)
        if self.outside == 'zero':
            both = _intersection(self._all_present, window)
            zeros = torch.zeros_like(self.best[self._all_present])
            inner = tuple(
                slice(x.start - y.start, x.stop - y.start) for x, y in zip(both, self._all_present)
            )
            zeros[inner] = -torch.inf
            self._compare(self._all_present, zeros)
            self._all_present = both
        self.count += 1

    def _compare(self, window: Window, values: Tensor) -> None:
        best = self.best[window]
        self.owner[window].masked_fill_(values > best, self.count)
        torch.maximum(best, values, out=best)


def _intersection(one: Window, other: Window) -> Window:
    """It lies in the first one, also where it is empty."""
    return tuple(
        slice(start := min(max(x.start, y.start), x.stop), max(min(x.stop, y.stop), start))
        for x, y in zip(one, other)
    )
