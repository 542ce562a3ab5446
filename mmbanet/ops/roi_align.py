"""RoIAlign with average pooling: mmcv's, made fast on the CPU."""

import torch
from torch import Tensor, nn

from ._arguments import check_grid, check_tensors, parse_crop_size, parse_int
from ._library import require_operators


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """``mmcv.ops.roi_align`` with ``pool_mode='avg'``: the same samples, and the same arguments.

    On the CPU it has threads, and takes time in proportion to the pixels of a RoI instead of its
    samples, of which ``sampling_ratio=0`` takes up to four times as many. Other devices get mmcv's.

    Differentiable any number of times with respect to ``input`` on the CPU. There, forward and
    backward are bitwise deterministic, with any number of threads.

    Args:
        input: (N, C, H, W), map; float64, float32, float16 or bfloat16 (the last two are
            accumulated in float32).
        rois: (K, 5), image index, x1, y1, x2, y2 in pixels of the image; of any floating
            or integer dtype (what it cannot hold is lost: see :func:`~mmbanet.ops.roi_inlay`), but
            rounded to that of ``input`` on other devices than the CPU (to float32 where that is
            bfloat16). Samples more than one pixel outside of the map count as 0. On the CPU a RoI
            that has NaN or that is larger or farther away than 1e9 pixels of the map gives 0; so
            does, with ``sampling_ratio=0`` and ``aligned``, one whose width or height is not
            positive.
        output_size: (h, w) of the crops, or one int for both; whatever has ``__index__``.
        spatial_scale: Size of the map relative to the image, such as 1 / stride.
        sampling_ratio: Samples of a bin along each axis, 1024 at most; 0 takes one per pixel of the
            map, rounded up.
        aligned: Whether pixel centres are shifted by half a pixel. Without it, RoIs of less than
            one pixel are enlarged to that.

    Returns:
        (K, C, h, w), crops, with the dtype, device and (on the CPU) memory format of
        ``input``: NCHW or channels-last.

    Raises:
        ValueError: If an argument has the wrong shape or range; on the CPU also if an image index
            is outside [0, N).
        TypeError: If an argument has the wrong type or dtype.
        ImportError: If the compiled operators are not built, or mmcv is needed and not installed.
    """
    require_operators()
    check_tensors(input=input, rois=rois)
    check_grid(spatial_scale, aligned)
    sampling_ratio = parse_int('sampling_ratio', sampling_ratio)
    height, width = parse_crop_size(output_size)
    if input.device.type not in ('cpu', 'meta'):
        from mmcv.ops import roi_align as mmcv_roi_align

        # It has no bfloat16, to which RoIs could not be rounded either.
        dtype = torch.float32 if input.dtype == torch.bfloat16 else input.dtype
        # Contiguous, since mmcv reads the channels-last layout wrongly.
        map, rois = input.to(dtype).contiguous(), rois.to(dtype).contiguous()
        if not len(rois):  # CUDA refuses a kernel without blocks
            return input.flatten()[:0].view(0, input.shape[1], height, width)
        crops = mmcv_roi_align(
            map, rois, (height, width), spatial_scale, sampling_ratio, 'avg', aligned
        )
        return crops.to(input.dtype)
    return torch.ops.mmbanet.roi_align(
        input, rois, height, width, spatial_scale, sampling_ratio, aligned
    )


class RoIAlign(nn.Module):
    """See :func:`roi_align`; for ``roi_layer=dict(type='mmbanet.RoIAlign', ...)`` in configs.

    Args:
        output_size: (h, w) of the crops, or one int for both.
        spatial_scale: Size of the map relative to the image.
        sampling_ratio: Samples of a bin along each axis, or 0.
        pool_mode: ``'avg'``, as there is no other; mmcv's has this argument.
        aligned: Whether pixel centres are shifted by half a pixel.
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        pool_mode: str = 'avg',
        aligned: bool = True,
    ) -> None:
        super().__init__()
        require_operators()
        if pool_mode != 'avg':
            raise ValueError(f"pool_mode must be 'avg', got {pool_mode!r}")
        self.output_size = parse_crop_size(output_size)
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Crops (K, C, h, w) of a map (N, C, H, W)."""
        return roi_align(
            input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned
        )

    def extra_repr(self) -> str:
        """Settings, for ``print(module)``."""
        return (
            f'output_size={self.output_size}, spatial_scale={self.spatial_scale}, '
            f'sampling_ratio={self.sampling_ratio}, aligned={self.aligned}'
        )
