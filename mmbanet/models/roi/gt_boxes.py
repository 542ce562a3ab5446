"""Boxes for RoIInlay while training: a random part of the ground truth (section 3.4)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def sample_gt_boxes(batch_boxes: Sequence[Tensor], share: tuple[float, float]) -> list[Tensor]:
    """Keeps of each image's boxes a random share drawn from U(*share), at least one box.

    Args:
        batch_boxes: Per image (G, 4), G >= 0.
        share: Lower and upper bound of the share kept; (0.6, 1.0) in the paper.

    Returns:
        Per image a random subset of its boxes; empty only where there are none.
    """
    low, high = share
    kept = []
    for boxes in batch_boxes:
        count = round(len(boxes) * (low + (high - low) * torch.rand(()).item()))
        order = torch.randperm(len(boxes))[: max(count, 1)]
        kept.append(boxes[order.to(boxes.device)])
    return kept
