"""mmcv's deformable convolution, made fast on the CPU."""

import torch
import torch.nn.functional as F
from mmcv import ops
from torch import Tensor, nn

from mmbanet.registry import MODELS

POSITIONS_AT_A_TIME = 1024


@MODELS.register_module()
class DeformConv2dPack(ops.DeformConv2dPack):
    """Deformable convolution (version 1), for ``conv_cfg`` in place of mmcv's ``'DCN'``.

    The same parameters, arguments and results. On the CPU the samples are taken by PyTorch's
    vectorised ``embedding_bag``, and the maps may be smaller than the kernel; on other devices
    mmcv's operator runs.

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
        # A row for each pixel and deformable group: what is sampled together lies together.
        rows = x.to(dtype).permute(0, 2, 3, 1).reshape(-1, self.in_channels // self.deform_groups)
        points = self._points(offset)
        first = torch.arange(num, dtype=torch.int32) * (x.shape[2] * x.shape[3])
        first = first.repeat_interleave(height * width)
        # The samples of few positions at a time, unless gradients need all of them.
        step = max(len(points), 1) if torch.is_grad_enabled() else POSITIONS_AT_A_TIME
        # (groups, kernel elements and inputs of one, its outputs)
        weight = self.weight.flatten(2).unflatten(0, (self.groups, -1))
        weight = weight.permute(0, 3, 2, 1).flatten(1, 2)
        outputs = []
        for part, image in zip(points.split(step), first.split(step)):
            samples = _sample(rows, part, image, x.shape[2:]).to(x.dtype)
            samples = samples.view(*part.shape[:2], self.groups, x.shape[1] // self.groups)
            samples = samples.permute(2, 0, 1, 3).flatten(2)
            outputs.append((samples @ weight).transpose(1, 2).flatten(0, 1))
        output = torch.cat(outputs, dim=1).view(self.out_channels, num, height, width)
        return output.transpose(0, 1).contiguous()

    def _points(self, offset: Tensor) -> Tensor:
        """Sampling points.

        Args:
            offset: (N, 2 * deform_groups * T, H', W') for T elements of the kernel, of each one its
                y and x in pixels.

        Returns:
            (N * H' * W', T, deform_groups, 2): y, x in pixels of the map.
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
        yx = offset.reshape(num, self.deform_groups, *regular.shape) + regular
        return yx.permute(0, 4, 5, 2, 1, 3).flatten(0, 2).contiguous()


def _sample(rows: Tensor, points: Tensor, first: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation, with zeros outside of the map.

    Args:
        rows: (N * H * W * G, C), the pixels of N maps of G groups of C channels.
        points: (P, T, G, 2): y, x in pixels.
        first: (P,), the first pixel of the point's map, int32.
        size: H and W.

    Returns:
        (P * T * G, C).
    """
    low = points.detach().floor()
    share = points - low
    corners = low[..., None] + torch.arange(2)  # (P, T, G, y and x, low and high)
    last = torch.tensor(size)[:, None] - 1
    weights = torch.stack([1 - share, share], dim=-1) * ((corners >= 0) & (corners <= last))
    # What is not finite stays so in the weights.
    y, x = corners.nan_to_num().clamp(torch.zeros_like(last), last).int().unbind(-2)
    pixels = first[:, None, None, None, None] + y[..., :, None] * size[1] + x[..., None, :]
    groups = points.shape[2]
    index = pixels * groups + torch.arange(groups, dtype=torch.int32)[:, None, None]
    weights = weights[..., 0, :, None] * weights[..., 1, None, :]
    # Weighted sums of four rows each.
    return F.embedding_bag(
        index.reshape(-1, 4), rows, mode='sum', per_sample_weights=weights.reshape(-1, 4)
    )
