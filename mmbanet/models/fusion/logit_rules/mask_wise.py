"""Panoptic SegFormer's mask-wise merging: Li et al., CVPR 2022 (arXiv 2109.03814)."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.models.semantic.resized_logits import ResizedLogits

from ..checks import check_choice, check_threshold
from .boxes import box_window, resize_into_box
from .rule import LogitRule, StuffChannels

STUFF = ('below', 'masks')


@dataclass(frozen=True)
class MaskWiseRule(LogitRule):
    """Masks are laid in the order of confidence ** alpha times mask quality ** beta.

    The quality of a mask is the mean of its probability over its pixels. A mask takes what is free
    of it, unless too much is taken already.

    Attributes:
        alpha, beta: Powers of the confidence and of the quality.
        confidence_thr: A mask with less of their product is left out.
        removal_thr: A thing of which a larger share is taken is left out.
        stuff_removal_thr: The same for stuff, with ``stuff='masks'``.
        stuff: ``'masks'``: each stuff class is a mask as those of things, where it is the likeliest
            class; as a detector has no query for it, its confidence is 1 and its probability that
            of the semantic prediction at its own stride. ``'below'``: stuff fills what is free.
    """

    alpha: float = 1.0
    beta: float = 2.0
    confidence_thr: float = 0.25
    removal_thr: float = 0.4
    stuff_removal_thr: float = 0.2
    stuff: str = 'below'

    needs_all_classes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ('alpha', 'beta'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not value >= 0:
                raise ValueError(f'{name} must be a number of at least 0, got {value!r}')
        for name in ('confidence_thr', 'removal_thr', 'stuff_removal_thr'):
            check_threshold(name, getattr(self, name))
        check_choice('stuff', self.stuff, STUFF)

    def fuse(
        self, instances: InstanceData, semantics: ResizedLogits, classes: StuffChannels
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`LogitRule.fuse`."""
        size = semantics.shape[1:]
        device = semantics.logits.device
        channels = semantics.argmax(classes.all)
        things = self._things(instances, size)
        stuff = self._stuff(semantics, classes) if self.stuff == 'masks' else []
        # Things first among equals.
        order = sorted([*things, *stuff], key=lambda item: -item[0])

        code = torch.full(size, -1, device=device)  # instances, then K + channel
        free = torch.ones(size, dtype=torch.bool, device=device)
        for value, k, channel in order:
            if value < self.confidence_thr:
                break
            mask = instances.masks[k] if channel is None else channels == channel
            area, left = int(mask.sum()), int((mask & free).sum())
            limit = self.removal_thr if channel is None else self.stuff_removal_thr
            if area == 0 or (area - left) / area > limit:
                continue
            code[mask & free] = k if channel is None else len(instances) + channel
            free &= ~mask
        is_stuff = code >= len(instances)
        owner = torch.where(is_stuff, -1, code)
        labels = classes.labels(channels)
        if self.stuff == 'masks':
            labels = labels.masked_fill(~is_stuff, classes.void)
        return owner, labels

    def _things(
        self, instances: InstanceData, size: tuple[int, int]
    ) -> list[tuple[float, int, int | None]]:
        found = []
        for k, (box, mask, logits) in enumerate(
            zip(instances.bboxes, instances.masks, instances.mask_logits)
        ):
            window = box_window(box, size)
            inside = resize_into_box(logits.sigmoid(), box, window)[mask[window]]
            quality = inside.mean().item() if len(inside) else 0.0
            found.append((instances.scores[k].item() ** self.alpha * quality**self.beta, k, None))
        return found

    def _stuff(
        self, semantics: ResizedLogits, classes: StuffChannels
    ) -> list[tuple[float, int, int | None]]:
        probability, likely = semantics.cells.float().softmax(dim=0).max(dim=0)
        found = []
        for channel in classes.stuff.tolist():
            inside = probability[likely == channel]
            if len(inside):
                found.append((inside.mean().item() ** self.beta, -1, channel))
        return found
