"""mmcv's deformable convolution, made fast on the CPU."""

import torch
import torch.nn.functional as F
from mmcv import ops
from torch import Tensor, nn

from mmbanet.registry import MODELS


@MODELS.register_module()
class DeformConv2dPack(ops.DeformConv2dPack):
    """Deformable convolution (version 1), for ``conv_cfg`` in place of mmcv's ``'DCN'``.

    The same parameters, arguments and results. On the CPU the samples are taken by PyTorch's
    vectorised ``grid_sample``, and the maps may be smaller than the kernel; on other devices mmcv's
    operator runs.

    Args:
        bias: Whether to add a bias, which mmcv's has not: for layers without normalisation.
        Others: as mmcv's ``DeformConv2dPack``.
    """

    def __init__(self, *args, bias: bool = False, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.bias = nn.Parameter(torch.zeros(self.out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolves.

        Args:
            x: (N, in_channels, H, W).

        Returns:
            (N, out_channels, H', W'), as of an ordinary convolution.
        """
        output = self._forward_cpu(x) if x.device.type == 'cpu' else super().forward(x)
        return output if self.bias is None else output + self.bias[:, None, None]

    def _forward_cpu(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        offset = self.conv_offset(x).to(dtype)
        num, _, height, width = offset.shape
        parts, channels = num * self.deform_groups, self.in_channels // self.deform_groups
        columns = _sample(x.to(dtype).reshape(parts, channels, *x.shape[2:]), self._points(offset))
        # (groups, outputs of one, its inputs and kernel elements)
        weight = self.weight.reshape(self.groups, -1, self.weight[0].numel())
        columns = columns.view(num, self.groups, weight.shape[2], height * width)
        output = weight @ columns.to(x.dtype)
        return output.view(num, self.out_channels, height, width)

    def _points(self, offset: Tensor) -> Tensor:
        """Sampling points.

        Args:
            offset: (N, 2 * deform_groups * T, H', W') for T elements of the kernel, of each one its
                y and x in pixels.

        Returns:
            (N * deform_groups, T, H' * W', 2): x, y in pixels of the map.
        """
        num, _, *size = offset.shape
        sides = zip(self.kernel_size, size, self.stride, self.padding, self.dilation)
        # On each axis (kernel elements, outputs): where an ordinary convolution looks.
        y, x = (
            torch.arange(taps)[:, None] * dilation + torch.arange(length) * stride - padding
            for taps, length, stride, padding, dilation in sides
        )
        regular = torch.stack(
            torch.broadcast_tensors(y[:, None, :, None], x[None, :, None, :]), dim=2
        )
        regular = regular.flatten(0, 1)
        yx = offset.reshape(num * self.deform_groups, *regular.shape) + regular
        return yx.flip(2).flatten(3).transpose(2, 3)


def _sample(x: Tensor, points: Tensor) -> Tensor:
    """Bilinear interpolation, with zeros outside of the map.

    Args:
        x: (N, C, H, W).
        points: (N, T, P, 2): x, y in pixels.

    Returns:
        (N, C, T, P).
    """
    # Pixel centres are at odd multiples of half a pixel in grid_sample's coordinates, -1..1.
    grid = (2 * points + 1) / points.new_tensor([x.shape[3], x.shape[2]]) - 1
    return F.grid_sample(x, grid, mode='bilinear', padding_mode='zeros', align_corners=False)
