"""JSIS-Net's merging: de Geus, Meletis and Dubbelman, 2018 (arXiv 1809.02110)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.models.semantic.resized_logits import ResizedLogits

from .boxes import box_window, resize_into_box
from .rule import LogitRule, StuffChannels


@dataclass(frozen=True)
class JSISRule(LogitRule):
    """A pixel goes to the mask that is surest of it, else to the likeliest stuff that is not small.

    The area of stuff counts before instances are laid over it, as in the authors' later code; where
    all stuff is small, none is left. No instance is dropped.
    """

    needs_all_classes: ClassVar[bool] = False
    limits_what_is_left: ClassVar[bool] = False

    def fuse(
        self, instances: InstanceData, semantics: ResizedLogits, classes: StuffChannels
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`LogitRule.fuse`."""
        size = semantics.shape[1:]
        device = semantics.logits.device
        owner = torch.full(size, -1, device=device)
        best = torch.full(size, -torch.inf, device=device)
        for k, (box, mask, logits) in enumerate(
            zip(instances.bboxes, instances.masks, instances.mask_logits)
        ):
            window = box_window(box, size)
            # The sure side of sigmoid and logit is the same, but a mask's resize is of probability.
            values = resize_into_box(logits.sigmoid(), box, window)
            wins = mask[window] & (values > best[window])
            best[window][wins] = values[wins]
            owner[window][wins] = k
        return owner, _large_stuff(semantics, classes)


def _large_stuff(semantics: ResizedLogits, classes: StuffChannels) -> Tensor:
    """(H, W) int64: the likeliest stuff of those classes that have the least area."""
    size = semantics.shape[1:]
    void = torch.full(size, classes.void, device=semantics.logits.device)
    if len(classes.stuff) == 0:
        return void
    channels = semantics.argmax(classes.stuff)
    area = torch.bincount(channels.flatten(), minlength=len(classes.all))[classes.stuff]
    large = classes.stuff[area >= classes.area_limit]
    if len(large) == 0:
        return void
    if (area[area < classes.area_limit] > 0).any():
        channels = semantics.argmax(large)
    return classes.labels(channels)
