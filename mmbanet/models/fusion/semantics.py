"""The semantic prediction as one map of labels, whatever the model hands over."""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.ops import bilinear_matrix, resized_argmax

from ..semantic.logits import first_label


@torch.no_grad()
def semantic_labels(
    prediction: Tensor,
    size: tuple[int, int],
    num_things_classes: int,
    num_stuff_classes: int,
    layout: str = 'auto',
) -> Tensor:
    """The label of every pixel: things 0..T-1, stuff T..T+S-1, T+S for void or any thing.

    Args:
        prediction (Tensor): Logits, floating point (C, h, w), which cover what the masks cover and
            are resized to them bilinearly; or labels as above, integer (H, W) or (1, H, W).
        size (tuple): H and W of the masks.
        num_things_classes (int): T.
        num_stuff_classes (int): S.
        layout (str): The channels of logits, ``'all'``, ``'stuff_and_things'`` or ``'auto'``, see
            :func:`~mmbanet.models.semantic.logits.first_label`.

    Returns:
        Tensor: (H, W) int32.
    """
    num_classes = num_things_classes + num_stuff_classes
    if not isinstance(prediction, Tensor) or prediction.dtype == torch.bool:
        kind = getattr(prediction, 'dtype', type(prediction).__name__)
        raise TypeError(f'the semantic prediction must be a tensor of numbers, got {kind}')
    if not prediction.is_floating_point():
        return _checked_labels(prediction, size, num_classes)

    if prediction.ndim != 3 or 0 in prediction.shape:
        raise ValueError(
            f'semantic logits must have shape (C, h, w), got {tuple(prediction.shape)}'
        )
    if 0 in size:
        return prediction.new_zeros(tuple(size), dtype=torch.int32)
    offset = first_label(len(prediction), num_things_classes, num_stuff_classes, layout)
    rows, cols = (
        None if old == new else bilinear_matrix(old, new, device=prediction.device)
        for old, new in zip(prediction.shape[1:], size)
    )
    return resized_argmax(prediction, rows, cols).add_(offset)


def _checked_labels(labels: Tensor, size: tuple[int, int], num_classes: int) -> Tensor:
    if tuple(labels.shape) not in (tuple(size), (1, *size)):
        raise ValueError(
            f'semantic labels must have the resolution of the masks {tuple(size)}, '
            f'got {tuple(labels.shape)}'
        )
    if labels.numel() > 0:
        low, high = (bound.item() for bound in torch.aminmax(labels))
        if low < 0 or high > num_classes:
            raise ValueError(
                f'semantic labels must be in 0..{num_classes} ({num_classes}: void), '
                f'got values from {low} to {high}'
            )
    return labels.reshape(tuple(size)).int()
