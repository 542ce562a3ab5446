"""What masks cover of the cells of a coarser map, without maps at the resolution of the masks.

Shapes: K masks of H x W pixels, h x w cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from .logit_rules.boxes import Window, box_window, resize_into_box

# Rows and columns, and the mask, or what it covers, in them; nothing of it is outside.
Crop = tuple[Window, Tensor]


def crops_of_masks(masks: Iterable[Tensor]) -> Iterator[Crop]:
    """Masks (H, W) bool in their own rows and columns, which are few."""
    for mask in masks:
        rows = _extent(mask.any(dim=1))
        columns = _extent(mask[rows].any(dim=0))
        yield (rows, columns), mask[rows, columns]


def crops_of_logits(instances: InstanceData, size: tuple[int, int]) -> Iterator[Crop]:
    """Predicted masks in their boxes, those of detections.

    Args:
        instances: With ``bboxes`` (K, 4) in pixels and ``mask_logits`` (K, m, m).
        size: H and W.
    """
    for box, logits in zip(instances.bboxes, instances.mask_logits.detach()):
        window = box_window(box, size)
        yield window, resize_into_box(logits.float().sigmoid(), box, window) >= 0.5


def coverage(
    crops: Iterable[Crop], size: tuple[int, int], cells: tuple[int, int], like: Tensor
) -> list[Crop]:
    """The share, 0..1, of each cell that each mask claims: rows and columns, and (h', w') in them.

    Args:
        crops: Of K masks.
        size: H and W.
        cells: h and w.
        like: Of the shares' dtype and device; mixed precision does not lower it.
    """
    weights = [_area_weights(*sides).to(like) for sides in zip(cells, size)]
    shares = []
    with torch.autocast(like.device.type, enabled=False):
        for window, inside in crops:
            touched = tuple(
                slice(line.start * n // pixels, -(-line.stop * n // pixels))
                for line, n, pixels in zip(window, cells, size)
            )
            rows, columns = (w[to, line] for w, to, line in zip(weights, touched, window))
            shares.append((touched, rows @ (inside.to(like) @ columns.T)))
    return shares


def _area_weights(cells: int, pixels: int) -> Tensor:
    """(cells, pixels) float64: the share of each cell of a row that each pixel makes up."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * pixels / cells
    left = torch.arange(pixels, dtype=torch.float64)
    shared = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    return shared.clamp(min=0) * cells / pixels


def _extent(lines: Tensor) -> slice:
    """From the first to the last of the lines that are True."""
    found = lines.nonzero()
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)
