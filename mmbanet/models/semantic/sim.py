"""Structure Injection Module (SIM) of the instance-to-semantic path, section 3.2 and figure 4."""

import torch
from mmcv.cnn import ConvModule
from mmdet.utils import OptConfigType
from mmengine.model import BaseModule
from torch import Tensor, nn


class StructureInjectionModule(BaseModule):
    """Projects F_inlay and F_S to one width, concatenates them, and mixes them by a 3x3 conv.

    ``project_instances`` has no bias, so that it may run before RoIInlay: the two commute.

    Args:
        instance_channels: Channels of F_ins.
        semantic_channels: Channels of F_S.
        width: Channels of each projection.
        out_channels: Channels of the result.
        norm_cfg: Normalisation after the 3x3 conv.
    """

    def __init__(
        self,
        *,
        instance_channels: int,
        semantic_channels: int,
        width: int,
        out_channels: int,
        norm_cfg: OptConfigType,
    ) -> None:
        super().__init__()
        self.project_instances = nn.Conv2d(instance_channels, width, 1, bias=False)
        self.project_semantics = nn.Conv2d(semantic_channels, width, 1)
        self.mix = ConvModule(2 * width, out_channels, 3, padding=1, norm_cfg=norm_cfg)

    def forward(self, inlaid: Tensor, semantic: Tensor) -> Tensor:
        """Semantic features with structure.

        Args:
            inlaid: RoIInlay of the projected F_ins, (N, width, H, W).
            semantic: F_S, (N, semantic_channels, H, W).

        Returns:
            (N, out_channels, H, W).
        """
        return self.mix(torch.cat([inlaid, self.project_semantics(semantic)], dim=1))
