"""Fake-tensor and autograd registrations of the compiled operators.

RoIInlay, RoIUpsample and RoIAlign are linear in their first argument, so their derivative is their
transpose, which is an operator of its own (``*_backward``), and the derivative of that is the
operator itself: gradients of any order come from these two. RoIs have no gradient, nor has an
argmax.

Shapes: crops (K, C, h, w), rois (K, 5), maps (N, C, H, W). Results have the memory format of the
features that they are made from: NCHW or channels-last.
"""

import torch
from torch._prims_common import suggest_memory_format


def _register(to_map_name: str, to_crops_name: str) -> None:
    """Registers two operators that are each other's transposes.

    Both take (features, rois, sizes..., options...): the sizes are N, H, W for the operator that
    makes a map and h, w for the one that makes crops. Options are passed from one to the other.
    """
    to_map = getattr(torch.ops.mmbanet, to_map_name)
    to_crops = getattr(torch.ops.mmbanet, to_crops_name)

    def to_map_fake(crops, rois, batch_size, height, width, *options):
        _check_fake(crops, rois)
        torch._check(crops.shape[0] == rois.shape[0], lambda: 'rois must have one row per crop')
        return _empty_like_layout(crops, (batch_size, crops.shape[1], height, width))

    def to_crops_fake(map, rois, crop_height, crop_width, *options):
        _check_fake(map, rois)
        return _empty_like_layout(map, (rois.shape[0], map.shape[1], crop_height, crop_width))

    def to_map_context(ctx, inputs, output):
        crops, ctx.rois, _, _, _, *ctx.options = inputs
        ctx.crop_size = crops.shape[-2:]

    def to_map_gradient(ctx, grad):
        grad_crops = to_crops(grad, ctx.rois, *ctx.crop_size, *ctx.options)
        return grad_crops, *[None] * (4 + len(ctx.options))

    def to_crops_context(ctx, inputs, output):
        map, ctx.rois, _, _, *ctx.options = inputs
        ctx.map_size = (map.shape[0], *map.shape[-2:])

    def to_crops_gradient(ctx, grad):
        grad_map = to_map(grad, ctx.rois, *ctx.map_size, *ctx.options)
        return grad_map, *[None] * (3 + len(ctx.options))

    for name, fake, gradient, context in (
        (to_map_name, to_map_fake, to_map_gradient, to_map_context),
        (to_crops_name, to_crops_fake, to_crops_gradient, to_crops_context),
    ):
        torch.library.register_fake(f'mmbanet::{name}', fake)
        torch.library.register_autograd(f'mmbanet::{name}', gradient, setup_context=context)


def _resized_argmax_fake(logits, rows, cols):
    torch._check(logits.dim() == 3, lambda: f'logits must be 3-dimensional, got {logits.shape}')
    height = logits.shape[1] if rows is None else rows.shape[0]
    width = logits.shape[2] if cols is None else cols.shape[0]
    return logits.new_empty((height, width), dtype=torch.int32)


def _empty_like_layout(features, shape):
    memory_format = suggest_memory_format(features)
    return torch.empty(
        shape, dtype=features.dtype, device=features.device, memory_format=memory_format
    )


def _check_fake(features, rois) -> None:
    torch._check(
        features.dim() == 4, lambda: f'features must be 4-dimensional, got {features.shape}'
    )
    torch._check(rois.dim() == 2, lambda: f'rois must have shape (K, 5), got {rois.shape}')
    torch._check(rois.shape[1] == 5, lambda: f'rois must have shape (K, 5), got {rois.shape}')


_register('roi_inlay', 'roi_inlay_backward')
_register('roi_upsample', 'roi_upsample_backward')
_register('roi_align_backward', 'roi_align')
torch.library.register_fake('mmbanet::resized_argmax', _resized_argmax_fake)
