"""RoIInlay (section 3.2 of the BANet paper) in plain torch operations.

The interpolation is separable, so the map is two matrix products per RoI. The sum over RoIs is part
of the second one: nothing of the size of RoIs x map is made. :func:`~mmbanet.ops.roi_inlay` is
exported to ONNX through this; nothing else falls back to it.

Shapes: input (K, C, h, w), rois (K, 5), output (N, C, H, W).
"""

import math

import torch
from torch import Tensor


def decompose_roi_inlay(
    input: Tensor,
    rois: Tensor,
    batch_size: int,
    height: int,
    width: int,
    spatial_scale: float,
    aligned: bool,
) -> Tensor:
    """``torch.ops.mmbanet.roi_inlay`` in plain torch operations: no loop, no shape from data.

    It agrees with the operator up to rounding, but: a RoI with an image index outside
    [0, batch_size) covers nothing on any device, NaN and infinite features spread beyond the pixels
    that interpolate them (the products multiply by zeros), and arguments are not checked.

    Args:
        input: (K, C, h, w), crops; halves are accumulated in float32.
        rois: (K, 5), image index, x1, y1, x2, y2 in pixels of the image.
        batch_size: N, images in the output.
        height: H of the output.
        width: W of the output.
        spatial_scale: Size of the map relative to the image.
        aligned: Whether pixel centres are shifted by half a pixel.

    Returns:
        (N, C, H, W), the map, with the dtype and device of ``input``.
    """
    num_rois, channels, crop_height, crop_width = input.shape
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    # Which pixels a RoI covers must not depend on rounding: geometry is double, as in the kernels.
    image, x1, y1, x2, y2 = rois.double().unbind(1)
    rows, rows_covered = _axis_weights(y1, y2, spatial_scale, aligned, crop_height, height, dtype)
    columns, columns_covered = _axis_weights(
        x1, x2, spatial_scale, aligned, crop_width, width, dtype
    )
    images = torch.arange(batch_size, dtype=torch.float64, device=rois.device)[:, None]
    in_image = ((image >= images) & (image < images + 1)).to(dtype)  # (N, K)

    crops_rows = rows[:, None] @ input.to(dtype)  # (K, C, H, w)
    crops_rows = crops_rows.permute(1, 2, 0, 3).reshape(channels * height, num_rois * crop_width)
    columns = in_image[:, :, None, None] * columns.transpose(1, 2)  # (N, K, w, W)
    columns = columns.reshape(batch_size, num_rois * crop_width, width)
    total = (crops_rows @ columns).reshape(batch_size, channels, height, width)

    count = torch.einsum('nk,kp,kq->npq', in_image, rows_covered, columns_covered)
    return (total / count.clamp(min=1)[:, None]).to(input.dtype)


def _axis_weights(
    low: Tensor,
    high: Tensor,
    spatial_scale: float,
    aligned: bool,
    samples: int,
    pixels: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Weights (K, pixels, samples) of one axis, and whether a pixel is covered (K, pixels)."""
    # A tensor, since the exporter to ONNX rounds numbers to float32.
    scale = torch.tensor(spatial_scale, dtype=torch.float64)
    offset = 0.5 if aligned else 0.0
    scaled_low, scaled_high = (low * scale)[:, None], (high * scale)[:, None]
    extent = scaled_high - scaled_low
    start, end = scaled_low - offset, scaled_high - offset
    pixel = torch.arange(pixels, dtype=torch.float64, device=low.device)
    covered = (extent > 0) & (extent < math.inf)
    covered = covered & (pixel >= start) & (pixel <= end)
    position = ((pixel - start) / extent * samples - 0.5).clamp(0, samples - 1)
    # A NaN of a RoI that covers nothing would survive the multiplication by 0.
    position = torch.where(covered, position, torch.zeros_like(position))
    sample = torch.arange(samples, dtype=torch.float64, device=low.device)
    weights = (1 - (position[..., None] - sample).abs()).clamp(min=0)
    return (weights * covered[..., None]).to(dtype), covered.to(dtype)
