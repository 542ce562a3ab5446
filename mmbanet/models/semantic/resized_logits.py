"""Semantic logits at the results' size, of which only what is asked for is ever resized.

Shapes: C channels, h x w cells at the stride, H x W pixels of the result, P pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmbanet.ops import bilinear_matrix, resized_argmax

# Pixels that are looked up at once on the CPU: few for its cache.
PIXEL_BLOCK = 1 << 15


@dataclass(frozen=True, eq=False)
class ResizedLogits:
    """``rows @ logits @ cols.T``, never as a whole.

    Attributes:
        logits: (C, h, w) at the semantic stride.
        rows, cols: (H, h) and (W, w) float32, the resize along each axis.
        layout: Of the channels, see :func:`~mmbanet.models.semantic.logits.layout_of`.
    """

    logits: Tensor
    rows: Tensor
    cols: Tensor
    layout: str

    @classmethod
    def to_size(cls, logits: Tensor, size: tuple[int, int], layout: str) -> ResizedLogits:
        """Logits (C, h, w) that cover what an image of ``size`` (H, W) covers."""
        rows, cols = (
            bilinear_matrix(old, new, logits.device) for old, new in zip(logits.shape[1:], size)
        )
        return cls(logits, rows, cols, layout)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return len(self.logits), len(self.rows), len(self.cols)

    @property
    def cells(self) -> Tensor:
        """(C, h', w'): the logits of the cells in the result, without those of padding."""
        height, width = (int(m[-1].argmax()) + 1 if len(m) else 0 for m in (self.rows, self.cols))
        return self.logits[:, :height, :width]

    def argmax(self, channels: Tensor) -> Tensor:
        """(H, W) int64: the most likely of some channels (c,) int64, c >= 1, of every pixel."""
        first, last = int(channels[0]), int(channels[-1])
        adjacent = last - first + 1 == len(channels)  # spares a copy
        part = self.logits[first : last + 1] if adjacent else self.logits[channels]
        return channels[resized_argmax(part, self.rows, self.cols).long()]

    def window(self, channel: int, window: tuple[slice, slice]) -> Tensor:
        """(H', W') float32: one channel inside a window of the result."""
        (top, row_weights), (left, col_weights) = (
            (first[part], weights[part])
            for (first, weights), part in zip((self._row_taps, self._col_taps), window)
        )
        cells = self.logits[channel].float()
        lines = _weighted(
            lambda i: cells.index_select(0, top + i), [w[:, None] for w in row_weights.unbind(1)]
        )
        return _weighted(lambda j: lines.index_select(1, left + j), col_weights.unbind(1))

    def at(self, channels: Tensor) -> Tensor:
        """(H, W) float32: of every pixel the channel (H, W) int64 that is asked for.

        Equal, to the last bit, to what :meth:`window` says of the same channel.
        """
        (top, row_weights), (left, col_weights) = self._row_taps, self._col_taps
        flat = self.logits.reshape(-1)
        height, width = self.logits.shape[1:]
        values = torch.empty(channels.shape, device=flat.device)
        step = len(top) if flat.is_cuda else max(PIXEL_BLOCK // max(len(left), 1), 1)
        for start in range(0, len(top), step):
            part = slice(start, start + step)
            place = channels[part] * (height * width) + (top[part, None] * width + left)
            down = [weight[:, None] for weight in row_weights[part].unbind(1)]
            place = place.flatten()

            def column(j: int, place=place, down=down, part=part) -> Tensor:
                def cell(i: int) -> Tensor:
                    found = flat[i * width + j :].index_select(0, place)
                    return found.view(channels[part].shape).float()

                return _weighted(cell, down)

            values[part] = _weighted(column, col_weights.unbind(1))
        return values

    @cached_property
    def _row_taps(self) -> tuple[Tensor, Tensor]:
        return _taps(self.rows)

    @cached_property
    def _col_taps(self) -> tuple[Tensor, Tensor]:
        return _taps(self.cols)


def _weighted(values: Callable[[int], Tensor], weights: Sequence[Tensor]) -> Tensor:
    """The sum of ``values(k) * weights[k]``, in their order."""
    total = values(0) * weights[0]
    for k, weight in enumerate(weights[1:], 1):
        total += values(k) * weight
    return total


def _taps(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of n rows the first column (n,) of t >= 1 in sequence, and their weights (n, t).

    No other column has a weight.
    """
    filled = matrix != 0
    size = matrix.shape[1]
    first = filled.int().argmax(dim=1)
    last = size - 1 - filled.flip(1).int().argmax(dim=1)
    last = torch.where(filled.any(dim=1), last, first)
    count = int((last - first).max()) + 1 if len(matrix) else 1
    first = first.clamp(max=size - count)
    columns = first[:, None] + torch.arange(count, device=matrix.device)
    return first, matrix.gather(1, columns)
