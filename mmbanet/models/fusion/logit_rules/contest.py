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
        self.best = torch.full(size, -torch.inf, device=device)
        self.owner = torch.full(size, -1, device=device)
        #: The first of the instances so far that have no box at the pixel.
        self.absent = torch.zeros(size, dtype=torch.int64, device=device)
        self.count = 0

    def enter(self, window: Window, values: Tensor) -> None:
        """The next instance, with its values in the window of its box."""
        best, owner, absent = (x[window] for x in (self.best, self.owner, self.absent))
        wins = values > best
        best[wins] = values[wins]
        owner[wins] = self.count
        absent[absent == self.count] += 1
        self.count += 1

    def finish(self) -> tuple[Tensor, Tensor]:
        """(H, W): the largest value, -inf where there is no instance, and its owner or -1."""
        if self.outside == 'zero':
            missing = self.absent < self.count
            wins = missing & ((self.best < 0) | ((self.best == 0) & (self.absent < self.owner)))
            self.best[wins] = 0
            self.owner[wins] = self.absent[wins]
        return self.best, self.owner
