"""The I2S heads that i2s_variants.py compares."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import torch
import torch.nn.functional as F
from frozen_features import ANNOTATED, DETECTIONS
from mmdet.structures import SampleList
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmbanet.models import I2SHead
from mmbanet.models.semantic.logits import semantic_loss

HALF = 'half'  # of the images with annotated boxes, half with detections
NO_INLAY = 'no inlay'
OCM = inspect.signature(I2SHead).parameters['ocm'].default


class Variant(NamedTuple):
    """How a head is made and trained.

    Attributes:
        settings: Of :class:`VariantHead`; None: a linear layer on F_S.
        boxes: That it is trained with.
    """

    settings: dict | None
    boxes: str = ANNOTATED


VARIANTS = {
    'linear layer on F_S': Variant(None),
    NO_INLAY: Variant(dict(in_sim=False, ocm=None)),
    'SIM': Variant(dict(ocm=None)),
    'OCM': Variant(dict(in_sim=False, ocm=OCM)),
    'SIM + OCM': Variant(dict(ocm=OCM)),
    '- trained with detections': Variant(dict(ocm=OCM), DETECTIONS),
    '- trained half with detections': Variant(dict(ocm=OCM), HALF),
    '- ReLU before the inlay': Variant(dict(ocm=OCM, relu=True)),
    '- instance path begins at zero': Variant(dict(ocm=OCM, zero=True)),
    '- encoding of 32': Variant(dict(ocm=dict(OCM, encoding_channels=32))),
    '- encoding of 512': Variant(dict(ocm=dict(OCM, encoding_channels=512))),
}


class VariantHead(I2SHead):
    """The I2S head with what the paper leaves open, and what it does not.

    Args:
        in_sim: Whether SIM sees instances, else zeros.
        relu: Whether F_ins, projected, goes through a ReLU before it is inlaid.
        zero: Whether the projection of F_ins for SIM and that of OCM's encoding begin at zero.
        settings: Those of :class:`~mmbanet.models.I2SHead`.
    """

    def __init__(
        self, *, in_sim: bool = True, relu: bool = False, zero: bool = False, **settings
    ) -> None:
        super().__init__(**settings)
        self.in_sim, self.relu, self.zero = in_sim, relu, zero

    def init_weights(self) -> None:
        """As ever, but for zeros."""
        super().init_weights()
        if self.zero:
            nn.init.zeros_(self.sim.project_instances.weight)
            nn.init.zeros_(self.ocm.project_encoding.weight)

    def _inlay(
        self, semantic: Tensor, instances: Tensor, rois: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        parts = [self.sim] if self.ocm is None else [self.sim, self.ocm]
        crops = [part.project_instances(instances) for part in parts]
        if self.relu:
            crops = [F.relu(crop) for crop in crops]
        if not self.in_sim:
            crops[0] = torch.zeros_like(crops[0])
        inlaid = self.inlay(torch.cat(crops, dim=1), rois, len(semantic), semantic.shape[-2:])
        found = inlaid.split([crop.shape[1] for crop in crops], dim=1)
        return found[0], found[1] if self.ocm is not None else None


class LinearHead(BaseModule):
    """A 1x1 convolution of F_S, which sees no instances.

    Args:
        like: The head whose classes and loss it has.
    """

    def __init__(self, like: I2SHead) -> None:
        super().__init__()
        self.conv_logits = nn.Conv2d(like.sim.project_semantics.in_channels, like.num_classes, 1)
        self.loss_i2s = like.loss_i2s

    def forward(self, semantic: Tensor, *_: object) -> Tensor:
        """Logits (N, num_classes, H, W) of F_S."""
        return self.conv_logits(semantic)

    def loss(
        self, semantic: Tensor, instances: Tensor, rois: Tensor, data_samples: SampleList
    ) -> dict[str, Tensor]:
        """As the I2S head's."""
        return dict(loss_i2s=semantic_loss(self.loss_i2s, self(semantic), data_samples))
