"""Object Context Module (OCM) of the instance-to-semantic path, section 3.2 and figure 4."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class ObjectContextModule(BaseModule):
    """Encodes the objects' layout in the scene and adds it to every position.

    F_inlay is projected to ``layout_channels`` (the paper's E = 10), max-pooled to a pyramid of
    grids over the image's valid area, flattened and projected to one encoding for the image. The
    encoding is repeated over the map, concatenated with SIM's output and projected to F_I2S. A 1x1
    conv of that concatenation is the sum of one projection of each part, which is how it is
    computed here: the repeated map never exists. The paper does not say where non-linearities
    stand; here a ReLU follows each of the two projections, or layout could only shift the logits.

    ``project_instances`` has no bias, so that it may run before RoIInlay: the two commute.

    Args:
        instance_channels: Channels of F_ins.
        structure_channels: Channels of SIM's output.
        layout_channels: E, channels in which the layout is described.
        pool_sizes: Sides of the pooling grids.
        encoding_channels: Length of the layout's encoding.
        out_channels: Channels of F_I2S.
    """

    def __init__(
        self,
        *,
        instance_channels: int,
        structure_channels: int,
        layout_channels: int,
        pool_sizes: Sequence[int],
        encoding_channels: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.pool_sizes = tuple(pool_sizes)
        described = layout_channels * sum(size * size for size in self.pool_sizes)
        self.project_instances = nn.Conv2d(instance_channels, layout_channels, 1, bias=False)
        self.encode = nn.Linear(described, encoding_channels)
        self.project_structure = nn.Conv2d(structure_channels, out_channels, 1)
        self.project_encoding = nn.Linear(encoding_channels, out_channels, bias=False)

    def forward(
        self, inlaid: Tensor, structure: Tensor, valid_sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """F_I2S.

        Args:
            inlaid: RoIInlay of the projected F_ins, (N, layout_channels, H, W).
            structure: SIM's output, (N, structure_channels, H, W).
            valid_sizes: (h, w) of each image's area on the map, without the batch's padding.

        Returns:
            (N, out_channels, H, W).
        """
        encoding = self.project_encoding(self.layout_encoding(inlaid, valid_sizes))
        return F.relu(self.project_structure(structure) + encoding[:, :, None, None])

    def layout_encoding(self, inlaid: Tensor, valid_sizes: Sequence[tuple[int, int]]) -> Tensor:
        """One encoding (N, encoding_channels) of each image's layout."""
        pool = _pooled_by_masks if torch.onnx.is_in_onnx_export() else _pooled
        descriptions = [
            torch.cat([grid.flatten() for grid in pool(layout, height, width, self.pool_sizes)])
            for layout, (height, width) in zip(inlaid, valid_sizes)
        ]
        return F.relu(self.encode(torch.stack(descriptions)))


def _pooled(layout: Tensor, height: int, width: int, sizes: Sequence[int]) -> list[Tensor]:
    """Maxima (C, size, size) of the cells of grids over the area of a layout (C, H, W)."""
    valid, finest = layout[:, :height, :width], max(sizes)
    # The finest grid has the maxima of those that divide it. CUDA gives each cell a thread: a
    # single cell would have the whole map read by one.
    cells = _maxima(valid, finest)
    return [_maxima(valid if finest % size else cells, size) for size in sizes]


def _maxima(values: Tensor, size: int) -> Tensor:
    """Adaptive max-pooling, whose own gradient CUDA refuses with deterministic algorithms."""
    _, place = F.adaptive_max_pool2d(values.detach(), size, return_indices=True)
    return values.flatten(1).gather(1, place.flatten(1)).view(-1, size, size)


def _pooled_by_masks(
    layout: Tensor, height: Tensor, width: Tensor, sizes: Sequence[int]
) -> list[Tensor]:
    """The same in operators that ONNX has, of an area that is not known before."""

    def cells(length: int, valid: Tensor, size: int) -> Tensor:
        cell, pixel = torch.arange(size)[:, None], torch.arange(length)
        return (pixel >= cell * valid // size) & (pixel < -(-(cell + 1) * valid // size))

    grids = []
    for size in sizes:
        rows = cells(layout.shape[1], height, size)[:, :, None]
        columns = cells(layout.shape[2], width, size)
        grid = layout[:, None].masked_fill(~rows, -torch.inf).amax(dim=2)
        grids.append(grid[:, :, None].masked_fill(~columns, -torch.inf).amax(dim=3))
    return grids
