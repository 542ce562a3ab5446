"""Mask logits in their boxes: windows of the map in place of maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Window = tuple[slice, slice]


def box_window(box: Tensor, size: tuple[int, int]) -> Window:
    """The pixels, rows and columns of a map (H, W), whose centres lie in a box (4,)."""
    left, top, right, bottom = box.tolist()
    return tuple(
        slice(
            start := min(max(math.ceil(low - 0.5), 0), n), max(min(math.ceil(high - 0.5), n), start)
        )
        for low, high, n in ((top, bottom, size[0]), (left, right, size[1]))
    )


def resize_into_box(logits: Tensor, box: Tensor, window: Window) -> Tensor:
    """Logits (m, m) at the pixels of the box's window, bilinearly.

    Nothing is mixed in from outside of the box: zero would be a logit of one half. The cells at the
    border reach to it. There is a gradient with respect to the logits, and mixed precision rounds
    nothing.
    """
    rows, cols = (
        _weights(low, high, cells, pixels).to(logits)
        for low, high, cells, pixels in zip(box[[1, 0]], box[[3, 2]], logits.shape, window)
    )
    with torch.autocast(logits.device.type, enabled=False):
        return rows @ logits @ cols.T


def _weights(low: Tensor, high: Tensor, cells: int, pixels: slice) -> Tensor:
    """(n, cells), the bilinear weights of n pixels of one axis."""
    centres = torch.arange(pixels.start, pixels.stop, device=low.device) + 0.5
    place = ((centres - low) / (high - low) * cells - 0.5).clamp(0, cells - 1)
    return (1 - (place[:, None] - torch.arange(cells, device=low.device)).abs()).clamp(min=0)
