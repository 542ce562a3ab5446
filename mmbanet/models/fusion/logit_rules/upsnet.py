"""UPSNet's parameter-free panoptic head: Xiong et al., CVPR 2019 (arXiv 1901.03784).

Shapes: K instances, T things, S stuff, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

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
class UPSNetRule(LogitRule):
    """Stuff logits, the instances' and that of "unknown" compete for each pixel.

    An instance's logit is its mask logit and the semantic logit of its class, in its box. Unknown,
    which becomes void, is the largest semantic logit of things minus the largest of the instances'.

    Attributes:
        removal_thr: An instance of which more is taken by higher scores of its class is dropped.
        outside: See :class:`Contest`.
        unknown: Whether there is the unknown class.
        region_class: Whether an instance becomes stuff where most of its pixels, and at least half,
            are of that stuff in the semantic prediction.
    """

    removal_thr: float = 0.3
    outside: str = 'zero'
    unknown: bool = True
    region_class: bool = True

    def __post_init__(self) -> None:
        check_threshold('removal_thr', self.removal_thr)
        check_choice('outside', self.outside, OUTSIDE)

    def fuse(
        self, instances: InstanceData, semantics: ResizedLogits, classes: StuffChannels
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`LogitRule.fuse`."""
        size = semantics.shape[1:]
        contest = Contest(size, self.outside, semantics.logits.device)
        known = Contest(size, self.outside, semantics.logits.device)
        kept = not_taken(instances.masks, instances.labels, self.removal_thr)
        for k in kept:
            box = instances.bboxes[k]
            window = box_window(box, size)
            semantic = semantics.window(int(instances.labels[k]), window)
            known.enter(window, semantic)
            contest.enter(window, semantic + resize_into_box(instances.mask_logits[k], box, window))
        best, owner, explained = contest.best, contest.owner, known.best

        likely = semantics.argmax(classes.all)
        has_stuff = len(classes.stuff) > 0
        labels = semantics.argmax(classes.stuff) if has_stuff else likely
        # Without an instance the decision is that of the semantic prediction.
        is_unknown = (likely < classes.num_things) & self.unknown
        if kept:
            none = torch.full_like(best, -torch.inf)
            top_stuff = semantics.at(labels) if has_stuff else none
            rest = none
            if self.unknown:
                rest = self._rest(semantics, classes, likely, explained)
            present = best > -torch.inf
            wins = (best > top_stuff) & (best >= rest)
            owner.masked_fill_(~wins, -1)
            is_unknown = torch.where(present, (rest > top_stuff) & ~wins, is_unknown)
        if not has_stuff:
            labels = torch.full_like(likely, classes.void)
        labels.masked_fill_(is_unknown, classes.void)
        if self.region_class:
            _become_stuff(owner, labels, likely, len(kept), classes)
        numbers = torch.tensor([*kept, -1], device=owner.device)  # the last one is that of nobody
        return numbers[owner], labels

    def _rest(
        self, semantics: ResizedLogits, classes: StuffChannels, likely: Tensor, explained: Tensor
    ) -> Tensor:
        """(H, W): what the largest thing logit has over what instances explain, or less than stuff.

        Where stuff is likelier than things, these matter only if the explained is negative.
        """
        is_stuff = likely >= classes.num_things
        channels = likely
        if (is_stuff & (explained < 0) & (explained > -torch.inf)).any():
            channels = torch.where(is_stuff, semantics.argmax(classes.things), likely)
        return semantics.at(channels) - explained


def _become_stuff(
    owner: Tensor, labels: Tensor, likely: Tensor, count: int, classes: StuffChannels
) -> None:
    """Gives the pixels of instances that are stuff, by most of their pixels, to stuff."""
    pixels = (owner.flatten() >= 0).nonzero().squeeze(1)
    if len(pixels) == 0:
        return
    num_labels = classes.void
    owners = owner.flatten()[pixels]
    votes = torch.bincount(
        owners * num_labels + likely.flatten()[pixels], minlength=count * num_labels
    )
    votes = votes.view(count, num_labels)
    most, label = votes.max(dim=1)
    area = votes.sum(dim=1)
    change = (label >= classes.num_things) & (2 * most >= area) & (area > 0)
    changed = change[owners]
    pixels, owners = pixels[changed], owners[changed]
    labels.view(-1)[pixels] = label[owners]
    owner.view(-1)[pixels] = -1
