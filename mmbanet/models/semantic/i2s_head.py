"""Instance-to-semantic path (I2S), section 3.2 and figure 4: RoIInlay -> SIM -> OCM -> logits.

Shapes: N images, K boxes, F_S (N, C_s, H, W) at ``stride``, F_ins (K, C_i, h, w).
"""

from collections.abc import Sequence

import torch
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmbanet.registry import MODELS

from .logits import semantic_loss
from .ocm import ObjectContextModule
from .sim import StructureInjectionModule


@MODELS.register_module()
class I2SHead(BaseModule):
    """Semantic logits from F_S and the instance features of boxes.

    Args:
        num_classes: Classes of the logits, things and stuff.
        instance_channels: Channels of F_ins.
        semantic_channels: Channels of F_S.
        stride: Stride of F_S in the network's input.
        inlay: The patch-recovering operator, ``mmbanet.RoIInlay`` or ``mmbanet.RoIUpsample``.
        width: Channels to which SIM projects F_inlay and F_S.
        out_channels: Channels of SIM's output and of F_I2S.
        ocm: Settings of the :class:`~mmbanet.models.semantic.ocm.ObjectContextModule`; None leaves
            it out.
        norm_cfg: Normalisation of SIM's 3x3 conv; None: a bias in its place.
        loss_i2s: Loss of the logits; its ``loss_weight`` is the paper's lambda_i. Without
            ``avg_non_ignore=True`` that would mean less the more of an image is void or padding.
        init_cfg: MMEngine's initialisation config.
    """

    #: Of the logits' channels, see :func:`~mmbanet.models.semantic.logits.layout_of`.
    semantic_layout = 'all'

    def __init__(
        self,
        *,
        num_classes: int = 133,
        instance_channels: int = 256,
        semantic_channels: int = 512,
        stride: int = 4,
        inlay: ConfigType = dict(type='mmbanet.RoIInlay'),  # noqa: B006
        width: int = 128,
        out_channels: int = 256,
        ocm: dict | None = dict(  # noqa: B006
            layout_channels=10, pool_sizes=(1, 2, 4, 8), encoding_channels=128
        ),
        norm_cfg: OptConfigType = dict(type='GN', num_groups=32, requires_grad=True),  # noqa: B006
        loss_i2s: ConfigType = dict(  # noqa: B006
            type='mmdet.CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.3
        ),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.num_classes = num_classes
        self.stride = stride
        self.inlay = MODELS.build(inlay, default_args=dict(spatial_scale=1 / stride))
        self.sim = StructureInjectionModule(
            instance_channels=instance_channels,
            semantic_channels=semantic_channels,
            width=width,
            out_channels=out_channels,
            norm_cfg=norm_cfg,
        )
        self.ocm = None
        if ocm is not None:
            self.ocm = ObjectContextModule(
                instance_channels=instance_channels,
                structure_channels=out_channels,
                out_channels=out_channels,
                **ocm,
            )
        self.conv_logits = nn.Conv2d(out_channels, num_classes, 1)
        self.loss_i2s = MODELS.build(loss_i2s)

    def init_weights(self) -> None:
        """Small logits at the start, as in mmdet's panoptic head."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, 0, 0.01)
        nn.init.zeros_(self.conv_logits.bias)

    def forward(
        self,
        semantic: Tensor,
        instances: Tensor,
        rois: Tensor,
        img_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """Logits (N, num_classes, H, W).

        Args:
            semantic: F_S, (N, C_s, H, W).
            instances: F_ins, (K, C_i, h, w).
            rois: (K, 5): image index, x1, y1, x2, y2 in pixels of the network's input.
            img_shapes: (height, width) of each image in the network's input, without padding.
        """
        structure_inlaid, layout_inlaid = self._inlay(semantic, instances, rois)
        feats = self.sim(structure_inlaid, semantic)
        if self.ocm is not None:
            # Rounded up; whoever exports the model has sizes that are tensors.
            valid_sizes = [
                (-(-height // self.stride), -(-width // self.stride))
                for height, width in img_shapes
            ]
            feats = self.ocm(layout_inlaid, feats, valid_sizes)
        return self.conv_logits(feats)

    def _inlay(
        self, semantic: Tensor, instances: Tensor, rois: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """F_inlay as SIM and as OCM see it, projected on the crops and inlaid in one go."""
        crops = [self.sim.project_instances(instances)]
        if self.ocm is not None:
            crops.append(self.ocm.project_instances(instances))
        inlaid = self.inlay(torch.cat(crops, dim=1), rois, len(semantic), semantic.shape[-2:])
        parts = inlaid.split([crop.shape[1] for crop in crops], dim=1)
        return parts[0], parts[1] if self.ocm is not None else None

    def loss(
        self, semantic: Tensor, instances: Tensor, rois: Tensor, data_samples: SampleList
    ) -> dict[str, Tensor]:
        """L_I2S of equation (5)."""
        img_shapes = [sample.metainfo['img_shape'][:2] for sample in data_samples]
        logits = self(semantic, instances, rois, img_shapes)
        return dict(loss_i2s=semantic_loss(self.loss_i2s, logits, data_samples))
