"""RoIUpsample and Avg RoIUpsample, appendix A of the BANet paper: the rivals of RoIInlay."""

import torch
from torch import Tensor, nn

from ._arguments import check_grid, check_tensors, parse_int, parse_output_size
from ._library import require_operators

REDUCTIONS = ('sum', 'mean')


def roi_upsample(
    input: Tensor,
    rois: Tensor,
    batch_size: int,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    aligned: bool = True,
    reduction: str = 'sum',
) -> Tensor:
    """Scatters every sampling point of the crops to its four nearest pixels of an empty map.

    A sampling point at distances (ly, lx) below and right of a pixel, and (hy, hx) =
    (1 - ly, 1 - lx) from the opposite one, adds its value to the four pixels around it with their
    bilinear weights, divided by (hx² + lx²)(hy² + ly²). Pixels outside the map are dropped. Where a
    RoI is larger than its crop, pixels between the sampling points get nothing: it leaves holes
    (figure 7).

    Differentiable any number of times with respect to ``input``. Bitwise deterministic on the CPU;
    on CUDA the forward pass sums with atomics and is not.

    Args:
        input: (K, C, h, w), crops; float64, float32, float16 or bfloat16.
        rois: (K, 5), image index, x1, y1, x2, y2 in pixels of the image; dtypes as of
            :func:`~mmbanet.ops.roi_inlay`.
        batch_size: N, images in the output.
        output_size: (H, W) of the output.
        spatial_scale: Size of the map relative to the image, such as 1 / stride.
        aligned: Whether pixel centres are shifted by half a pixel, as in RoIAlign.
        reduction: ``'sum'`` adds up what reaches a pixel. ``'mean'`` divides the sum by the number
            of contributions: of the sampling points, of all RoIs of the image, that reach the pixel
            with a weight other than 0, which are those less than one pixel away on both axes (a
            point within 1e-9 of a pixel is on it, so that rounding does not change the number).

    Returns:
        (N, C, H, W), the map, with the dtype, device and memory format of ``input``.

    Raises:
        ValueError, TypeError, ImportError: As :func:`~mmbanet.ops.roi_inlay`.
    """
    require_operators()
    check_tensors(input=input, rois=rois)
    check_grid(spatial_scale, aligned)
    batch_size = parse_int('batch_size', batch_size)
    height, width = parse_output_size(output_size)
    check_reduction(reduction)
    return torch.ops.mmbanet.roi_upsample(
        input, rois, batch_size, height, width, spatial_scale, aligned, reduction == 'mean'
    )


def check_reduction(reduction: str) -> None:
    """Raises ValueError if there is no such reduction."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")


class RoIUpsample(nn.Module):
    """See :func:`roi_upsample`.

    Args:
        output_size: (H, W) of the output, unless ``forward`` is told another.
        spatial_scale: Size of the map relative to the image.
        aligned: Whether pixel centres are shifted by half a pixel.
        reduction: ``'sum'`` or ``'mean'``.
    """

    def __init__(
        self,
        output_size: tuple[int, int] | None = None,
        spatial_scale: float = 1.0,
        aligned: bool = True,
        reduction: str = 'sum',
    ) -> None:
        super().__init__()
        require_operators()
        check_reduction(reduction)
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.aligned = aligned
        self.reduction = reduction

    def forward(
        self,
        input: Tensor,
        rois: Tensor,
        batch_size: int,
        output_size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Map (N, C, H, W) of crops (K, C, h, w); ``output_size`` defaults to the module's."""
        output_size = self.output_size if output_size is None else output_size
        return roi_upsample(
            input,
            rois,
            batch_size,
            output_size,
            self.spatial_scale,
            self.aligned,
            self.reduction,
        )

    def extra_repr(self) -> str:
        """Settings, for ``print(module)``."""
        return (
            f'output_size={self.output_size}, spatial_scale={self.spatial_scale}, '
            f'aligned={self.aligned}, reduction={self.reduction!r}'
        )
