"""RoIInlay, section 3.2 of the BANet paper: RoIAlign undone."""

import torch
from torch import Tensor, nn

from ._arguments import check_grid, check_tensors, parse_int, parse_output_size
from ._library import require_operators
from .decomposition import decompose_roi_inlay


def roi_inlay(
    input: Tensor,
    rois: Tensor,
    batch_size: int,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    aligned: bool = True,
) -> Tensor:
    """Puts the crops of RoIAlign back into an empty map, at the places they were cropped from.

    The inverse of ``mmcv.ops.roi_align`` with ``sampling_ratio=1``: a pixel inside a RoI takes the
    bilinear interpolation of the RoI's four nearest sampling points; beyond the outermost sampling
    points it takes the value at their boundary. A pixel inside several RoIs of its image takes the
    average of their values, and a pixel inside none is 0.

    Differentiable any number of times with respect to ``input``. Forward and backward write every
    element once and are bitwise deterministic. On the CPU the order of the RoIs makes no difference
    either, to the last bit.

    Under autocast it runs in the dtype of ``input``, and ``rois`` are not cast. ``torch.compile``
    and ``torch.export`` take it whole, with any number of RoIs. ``torch.onnx.export`` gets the same
    maths in standard operators (:func:`~mmbanet.ops.decomposition.decompose_roi_inlay`).

    Args:
        input: (K, C, h, w), crops; float64, float32, float16 or bfloat16 (the last two are
            accumulated in float32).
        rois: (K, 5), image index, x1, y1, x2, y2 in pixels of the image; of any floating or
            integer dtype, whatever that of ``input``. Geometry is computed in double precision, but
            what a dtype cannot hold is lost before: float16 rounds coordinates over 1024 to whole
            pixels and more, bfloat16 those over 128, and indices of images over 2048 and 256. RoIs
            may lie partly or wholly outside the map. A RoI whose width or height is not positive
            and finite covers nothing.
        batch_size: N, images in the output. This and the sizes may be whatever has ``__index__``,
            NumPy's integers and tensors of no dimension included.
        output_size: (H, W) of the output.
        spatial_scale: Size of the map relative to the image, such as 1 / stride.
        aligned: Whether pixel centres are shifted by half a pixel, as in RoIAlign. Unlike
            RoIAlign, ``aligned=False`` does not enlarge RoIs of less than one pixel.

    Returns:
        (N, C, H, W), the map, with the dtype, device and memory format of ``input``: NCHW or
        channels-last. Neither is copied, and both give the same bits.

    Raises:
        ValueError: If an argument has the wrong shape or range; on the CPU also if an image index
            is outside [0, batch_size). On CUDA such a RoI is skipped, unless the environment
            variable ``MMBANET_CHECK_ROIS`` is 1: then it is an error there too, which costs a wait
            for the GPU.
        TypeError: If an argument has the wrong type or dtype.
        ImportError: If the compiled operators are not built.
    """
    require_operators()
    check_tensors(input=input, rois=rois)
    check_grid(spatial_scale, aligned)
    batch_size = parse_int('batch_size', batch_size)
    height, width = parse_output_size(output_size)
    # ONNX has no such operator; what is exported is made of standard ones.
    exporting = torch.onnx.is_in_onnx_export()
    operator = decompose_roi_inlay if exporting else torch.ops.mmbanet.roi_inlay
    return operator(input, rois, batch_size, height, width, spatial_scale, aligned)


class RoIInlay(nn.Module):
    """See :func:`roi_inlay`.

    Args:
        output_size: (H, W) of the output, unless ``forward`` is told another.
        spatial_scale: Size of the map relative to the image.
        aligned: Whether pixel centres are shifted by half a pixel.
    """

    def __init__(
        self,
        output_size: tuple[int, int] | None = None,
        spatial_scale: float = 1.0,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        require_operators()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.aligned = aligned

    def forward(
        self,
        input: Tensor,
        rois: Tensor,
        batch_size: int,
        output_size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Map (N, C, H, W) of crops (K, C, h, w); ``output_size`` defaults to the module's."""
        output_size = self.output_size if output_size is None else output_size
        return roi_inlay(input, rois, batch_size, output_size, self.spatial_scale, self.aligned)

    def extra_repr(self) -> str:
        """Settings, for ``print(module)``."""
        return (
            f'output_size={self.output_size}, spatial_scale={self.spatial_scale}, '
            f'aligned={self.aligned}'
        )
