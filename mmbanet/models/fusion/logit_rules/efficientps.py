"""EfficientPS's adaptive fusion: Mohan and Valada, IJCV 2021 (arXiv 2004.02307)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.models.semantic.resized_logits import ResizedLogits

from ..checks import check_choice, check_threshold
from .boxes import box_window, resize_into_box
from .claims import not_taken
from .contest import OUTSIDE, Contest
from .rule import LogitRule, StuffChannels


@dataclass(frozen=True)
class EfficientPSRule(LogitRule):
    """Instances with (sigmoid(A) + sigmoid(B)) (A + B) compete with the stuff logits.

    A is the mask logit, B the semantic logit of the instance's class. What no instance wins is as
    in the semantic prediction over all classes, things being void.

    Attributes:
        removal_thr: An instance of which more is taken by higher scores is dropped.
        outside: See :class:`Contest`.
        mask_logit_scale: A factor of A: 1 in the paper, 4 in its authors' code.
    """

    removal_thr: float = 0.5
    outside: str = 'zero'
    mask_logit_scale: float = 1.0

    def __post_init__(self) -> None:
        check_threshold('removal_thr', self.removal_thr)
        check_choice('outside', self.outside, OUTSIDE)
        scale = self.mask_logit_scale
        if isinstance(scale, bool) or not isinstance(scale, Real) or not 0 < scale < math.inf:
            raise ValueError(f'mask_logit_scale must be a positive number, got {scale!r}')

    def fuse(
        self, instances: InstanceData, semantics: ResizedLogits, classes: StuffChannels
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`LogitRule.fuse`."""
        size = semantics.shape[1:]
        contest = Contest(size, self.outside, semantics.logits.device)
        one_group = torch.zeros_like(instances.labels)
        kept = not_taken(instances.masks, one_group, self.removal_thr)
        for k in kept:
            box = instances.bboxes[k]
            window = box_window(box, size)
            mask = self.mask_logit_scale * resize_into_box(instances.mask_logits[k], box, window)
            semantic = semantics.window(int(instances.labels[k]), window)
            contest.enter(window, (mask.sigmoid() + semantic.sigmoid()) * (mask + semantic))
        owner = contest.owner
        if kept and len(classes.stuff) > 0:
            stuff = semantics.at(semantics.argmax(classes.stuff))
            owner.masked_fill_(~(contest.best > stuff), -1)
        labels = semantics.argmax(classes.all)
        numbers = torch.tensor([*kept, -1], device=owner.device)  # the last one is that of nobody
        return numbers[owner], labels
