"""The class of every pixel of a resized map of logits, without the map."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ._arguments import check_tensors
from ._library import require_operators


def resized_argmax(
    logits: Tensor, rows: Tensor | None = None, cols: Tensor | None = None
) -> Tensor:
    """``(rows @ logits @ cols.T).argmax(0)``, without the C resized maps in memory.

    A matrix resizes along one axis: an output is the weighted sum of the inputs from the first to
    the last non-zero weight of its row. The fewer these are, the faster. :func:`bilinear_matrix`
    makes such matrices; several resizes and crops along an axis compose to one::

        rows = bilinear_matrix(800, 480) @ bilinear_matrix(200, 810)[:800]

    The first of equal maxima wins. NaN never wins against a number, so a pixel with NaN in all
    channels has class 0, as has a pixel whose row of weights is all zero. NaN and infinity outside
    of a pixel's non-zero weights do not count. Results on the CPU do not depend on the number of
    threads; on CUDA other roundings may decide between maxima that are nearly equal.

    There is no gradient.

    Args:
        logits: (C, h, w), float64, float32, float16 or bfloat16, of any strides; none is
            copied. Sums are float64 for float64, else float32.
        rows: (H, h), weights along the height, float32; None keeps the height.
        cols: (W, w), weights along the width, float32; None keeps the width.

    Returns:
        (H, W), classes in [0, C), int32.

    Raises:
        ValueError: If an argument has the wrong shape, or a matrix is on another device.
        TypeError: If an argument has the wrong type or dtype.
        ImportError: If the compiled operators are not built.
    """
    require_operators()
    check_tensors(logits=logits)
    if rows is not None:
        check_tensors(rows=rows)
    if cols is not None:
        check_tensors(cols=cols)
    return torch.ops.mmbanet.resized_argmax(logits, rows, cols)


def bilinear_matrix(size: int, new_size: int, device: torch.device | str | None = None) -> Tensor:
    """Weights of ``F.interpolate(mode='bilinear', align_corners=False)`` along one axis.

    Args:
        size: Pixels along the axis.
        new_size: Pixels along the axis afterwards.
        device: Device of the matrix.

    Returns:
        (new_size, size), float32, for :func:`resized_argmax`.
    """
    columns = torch.eye(size, device=device)[None]
    return F.interpolate(columns, size=new_size, mode='linear', align_corners=False)[0].T
