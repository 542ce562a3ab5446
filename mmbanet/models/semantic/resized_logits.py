"""Semantic logits at the results' size, of which only what is asked for is ever resized.

Shapes: C channels, h x w cells at the stride, H x W pixels of the result, P pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmbanet.ops import bilinear_matrix, resized_argmax


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

    def argmax(self, channels: Tensor) -> Tensor:
        """(H, W) int64: the most likely of some channels (c,) int64, c >= 1, of every pixel."""
        first, last = int(channels[0]), int(channels[-1])
        adjacent = last - first + 1 == len(channels)  # spares a copy
        part = self.logits[first : last + 1] if adjacent else self.logits[channels]
        return channels[resized_argmax(part, self.rows, self.cols).long()]

    def window(self, channel: int, window: tuple[slice, slice]) -> Tensor:
        """(H', W') float32: one channel inside a window of the result."""
        rows, cols = self.rows[window[0]], self.cols[window[1]]
        return rows @ self.logits[channel].float() @ cols.T

    def at(self, channels: Tensor, pixels: Tensor) -> Tensor:
        """(P,) float32: one channel for each of some pixels.

        Args:
            channels: (P,) int64.
            pixels: (P,) int64, indices in the flattened result.
        """
        width = len(self.cols)
        (rows, row_weights), (cols, col_weights) = _taps(self.rows), _taps(self.cols)
        y, x = pixels // width, pixels % width
        flat = self.logits.reshape(-1)
        height, columns = self.logits.shape[1:]
        values = torch.zeros(len(pixels), device=flat.device)
        first = channels * (height * columns)
        for i in range(rows.shape[1]):
            line, weight = first + rows[y, i] * columns, row_weights[y, i]
            for j in range(cols.shape[1]):
                values += flat[line + cols[x, j]].float() * (weight * col_weights[x, j])
        return values


def _taps(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the columns of its non-zero weights, (n, t), and these, filled up with 0."""
    filled = matrix != 0
    first = filled.int().argmax(dim=1)
    last = matrix.shape[1] - 1 - filled.flip(1).int().argmax(dim=1)
    count = int((last - first).max()) + 1 if len(matrix) else 0
    columns = first[:, None] + torch.arange(count, device=matrix.device)
    inside = columns < matrix.shape[1]
    columns = columns.clamp(max=matrix.shape[1] - 1)
    return columns, matrix.gather(1, columns) * inside
