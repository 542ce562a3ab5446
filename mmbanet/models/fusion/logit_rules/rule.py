"""What a rule of fusion by logits is given, and what it says.

Shapes: K instances in descending score, m x m cells of a mask, T things, S stuff, H x W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.models.semantic.resized_logits import ResizedLogits


class LogitRule(ABC):
    """Decides every pixel; the settings of a rule are the fields of its (frozen) dataclass."""

    #: Whether the logits of thing classes are read, one channel each.
    needs_all_classes: ClassVar[bool] = True
    #: Whether the limit of the stuff's area is applied to what is left of it, by the head.
    limits_what_is_left: ClassVar[bool] = True

    @abstractmethod
    def fuse(
        self, instances: InstanceData, semantics: ResizedLogits, classes: StuffChannels
    ) -> tuple[Tensor, Tensor]:
        """Who owns each pixel.

        Args:
            instances: ``bboxes`` (K, 4) in pixels of the result, ``labels`` (K,), ``scores`` (K,)
                descending, ``masks`` (K, H, W) bool and ``mask_logits`` (K, m, m).
            semantics: Logits.
            classes: Which of their channels are what, and the limit of the stuff's area.

        Returns:
            ``owner`` (H, W) int64, an instance or -1, and ``labels`` (H, W) int64, 0..T+S, for the
            pixels without: things and T+S are void there.
        """


class StuffChannels:
    """Which channels of the logits are stuff.

    Args:
        num_things_classes: T.
        num_stuff_classes: S.
        semantics: With their layout.
        area_limit: Pixels; a smaller stuff class is no segment.
    """

    def __init__(
        self,
        num_things_classes: int,
        num_stuff_classes: int,
        semantics: ResizedLogits,
        area_limit: float,
    ) -> None:
        channels = torch.arange(len(semantics.logits), device=semantics.logits.device)
        self.void = num_things_classes + num_stuff_classes
        all_classes = semantics.layout == 'all'
        first_stuff = num_things_classes if all_classes else 0
        #: Channel of label 0.
        self.offset = 0 if all_classes else num_things_classes
        self.stuff = channels[first_stuff : first_stuff + num_stuff_classes]
        self.things = channels[:num_things_classes] if all_classes else channels[-1:]
        self.all = channels
        self.num_things = num_things_classes
        self.area_limit = area_limit

    def labels(self, channels: Tensor) -> Tensor:
        """Labels of channels."""
        return channels + self.offset
