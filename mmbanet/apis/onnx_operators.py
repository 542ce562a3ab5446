"""What an exported model needs beside PyTorch's operators: in torch, and as ONNX has it.

The shapes of all results follow from the shapes of the arguments, never from their values, so that
a whole detector is one graph.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from mmcv.ops import modulated_deform_conv2d, nms
from torch import Tensor


@torch.library.custom_op('mmbanet_export::unsuppressed', mutates_args=())
def unsuppressed(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes NMS keeps.

    Args:
        boxes: (M, 4): x1, y1, x2, y2.
        scores: (M,) in 0..1; -inf is no box.
        iou_threshold: Of two that overlap by more, the one with the higher score stays.

    Returns:
        (M,) bool.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    (there,) = (scores >= 0).nonzero(as_tuple=True)
    if len(there) > 0:
        kept[there[nms(boxes[there], scores[there], iou_threshold)[1]]] = True
    return kept


@unsuppressed.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


@torch.library.custom_op('mmbanet_export::deform_conv', mutates_args=())
def deform_conv(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Deformable convolution, version 1 (no ``mask``) or 2; arguments as mmcv's."""
    if mask is None:  # mmcv's version 1 takes no map that is smaller than the kernel
        mask = torch.ones_like(offset[:, : offset.shape[1] // 2])
    settings = stride, padding, dilation, groups, deform_groups
    return modulated_deform_conv2d(x, offset, mask, weight, bias, *settings)


@deform_conv.register_fake
def _(x, offset, mask, weight, bias, *_) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0], *offset.shape[2:]))


def translations() -> dict[Callable, Callable]:
    """``custom_translation_table`` of ``torch.onnx.export``.

    Raises:
        ImportError: onnxscript is not installed.
    """
    from onnxscript import opset19 as op

    def unsuppressed(boxes, scores, iou_threshold: float):
        kept = op.NonMaxSuppression(
            op.Unsqueeze(boxes, [0]),
            op.Unsqueeze(scores, [0, 1]),
            op.Shape(scores),
            op.Constant(value_floats=[iou_threshold]),
            op.Constant(value_floats=[-1.0]),
        )
        kept = op.Gather(kept, 2, axis=1)
        none = op.Expand(op.Constant(value_ints=[0]), op.Shape(scores))
        ones = op.Expand(op.Constant(value_ints=[1]), op.Shape(kept))
        return op.Cast(op.ScatterElements(none, kept, ones), to=9)

    def deform_conv(
        x,
        offset,
        mask,
        weight,
        bias,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
        deform_groups: int,
    ):
        return op.DeformConv(
            x,
            weight,
            offset,
            bias,
            mask,
            strides=stride,
            pads=[*padding, *padding],
            dilations=dilation,
            group=groups,
            offset_group=deform_groups,
        )

    def roi_align(
        input,
        rois,
        height: int,
        width: int,
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool,
    ):
        image = op.Cast(op.Gather(rois, 0, axis=1), to=7)
        boxes = op.Slice(rois, [1], [5], [1])
        return op.RoiAlign(
            input,
            boxes,
            image,
            mode='avg',
            output_height=height,
            output_width=width,
            sampling_ratio=sampling_ratio,
            spatial_scale=spatial_scale,
            coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel',
        )

    return {
        torch.ops.mmbanet_export.unsuppressed.default: unsuppressed,
        torch.ops.mmbanet_export.deform_conv.default: deform_conv,
        torch.ops.mmbanet.roi_align.default: roi_align,
    }
