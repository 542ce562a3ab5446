"""Attention of the background to where there is no foreground (AUNet, arXiv 1812.03904).

PAM and MAM are the same with other foreground features: those of the RPN, and masks.
"""

import torch
from mmdet.models.layers import SELayer
from torch import Tensor, nn


class BackgroundAttention(nn.Module):
    """S' = S * A + S with A = 1 - sigmoid(conv(P)), then a gate a channel ("background select").

    Args:
        foreground_channels: Channels of P.
        channels: Channels of S.
        kernel_size: Of the convolution, odd.
        per_channel: Whether A has all channels of S; else one for all.
        se_ratio: Of the gate, a squeeze and excitation layer: ``channels`` over its inner channels.
    """

    def __init__(
        self,
        *,
        foreground_channels: int,
        channels: int,
        kernel_size: int = 3,
        per_channel: bool = False,
        se_ratio: int = 16,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd and positive, got {kernel_size}')
        if not 1 <= se_ratio <= channels:
            raise ValueError(
                f'se_ratio must be in 1..{channels}, the channels that it divides, got {se_ratio}'
            )
        self.conv = nn.Conv2d(
            foreground_channels,
            channels if per_channel else 1,
            kernel_size,
            padding=kernel_size // 2,
        )
        self.select = SELayer(channels, ratio=se_ratio)

    def forward(self, semantic: Tensor, foreground: Tensor) -> Tensor:
        """S' (N, C, H, W) of S (N, C, H, W) and P (N, C_f, H, W)."""
        background = torch.sigmoid(-self.conv(foreground))  # 1 - sigmoid, without cancellation
        return self.select(semantic * background + semantic)
