"""Fake-tensor and autograd registrations of the compiled operators.

RoIInlay and RoIUpsample are linear in their first argument, so their derivative is their transpose,
which is an operator of its own (``*_backward``), and the derivative of that is the operator itself:
gradients of any order come from these two. RoIs have no gradient, nor has an argmax.

Shapes: input (K, C, h, w), rois (K, 5), map and gradient of the map (N, C, H, W). Results have the
memory format of the features that they are made from: NCHW or channels-last.
"""

import torch
from torch._prims_common import suggest_memory_format


def _register(name: str) -> None:
    """Registers ``mmbanet::<name>`` and ``mmbanet::<name>_backward``.

    Both take (features, rois, sizes..., spatial_scale, aligned, ...): the forward operator's sizes
    are N, H, W, the backward one's h, w. What follows the sizes is passed from one to the other.
    """
    forward = getattr(torch.ops.mmbanet, name)
    backward = getattr(torch.ops.mmbanet, f'{name}_backward')

    def forward_fake(input, rois, batch_size, height, width, *options):
        _check_fake(input, rois)
        torch._check(input.shape[0] == rois.shape[0], lambda: 'rois must have one row per crop')
        return _empty_like_layout(input, (batch_size, input.shape[1], height, width))

    def backward_fake(grad, rois, crop_height, crop_width, *options):
        _check_fake(grad, rois)
        return _empty_like_layout(grad, (rois.shape[0], grad.shape[1], crop_height, crop_width))

    def forward_context(ctx, inputs, output):
        input, ctx.rois, _, _, _, *ctx.options = inputs
        ctx.crop_size = input.shape[-2:]

    def forward_gradient(ctx, grad):
        grad_input = backward(grad, ctx.rois, *ctx.crop_size, *ctx.options)
        return grad_input, *[None] * (4 + len(ctx.options))

    def backward_context(ctx, inputs, output):
        grad, ctx.rois, _, _, *ctx.options = inputs
        ctx.map_size = (grad.shape[0], *grad.shape[-2:])

    def backward_gradient(ctx, grad):
        grad_grad = forward(grad, ctx.rois, *ctx.map_size, *ctx.options)
        return grad_grad, *[None] * (3 + len(ctx.options))

    torch.library.register_fake(f'mmbanet::{name}', forward_fake)
    torch.library.register_fake(f'mmbanet::{name}_backward', backward_fake)
    torch.library.register_autograd(
        f'mmbanet::{name}', forward_gradient, setup_context=forward_context
    )
    torch.library.register_autograd(
        f'mmbanet::{name}_backward', backward_gradient, setup_context=backward_context
    )


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


_register('roi_inlay')
_register('roi_upsample')
torch.library.register_fake('mmbanet::resized_argmax', _resized_argmax_fake)
