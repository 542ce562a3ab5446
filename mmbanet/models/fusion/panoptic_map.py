"""Instances and stuff composed into one panoptic map in mmdet's encoding (section 3.4).

Shapes: K objects, C semantic channels, H x W pixels.
"""

from __future__ import annotations

import torch
from mmdet.structures import INSTANCE_OFFSET
from torch import Tensor


@torch.no_grad()
def stuff_labels(
    logits: Tensor, num_things_classes: int, num_stuff_classes: int, layout: str
) -> Tensor:
    """The stuff class of every pixel, void where the semantic prediction says "thing".

    Args:
        logits (Tensor): (C, H, W).
        num_things_classes (int): T.
        num_stuff_classes (int): S.
        layout (str): ``'all'``, all T + S classes, things first; ``'stuff_and_things'``, the S
            stuff classes followed by one channel for all things, as of mmdet's
            ``PanopticFPNHead``; ``'auto'``, whichever has C channels.

    Returns:
        Tensor: (H, W) int64 in T..T+S-1, or T+S for void.
    """
    num_channels = {
        'all': num_things_classes + num_stuff_classes,
        'stuff_and_things': num_stuff_classes + 1,
    }
    accepted = num_channels if layout == 'auto' else {layout: num_channels[layout]}
    found = [name for name, channels in accepted.items() if channels == len(logits)]
    if not found:
        raise ValueError(
            f'semantic logits must have {_either(accepted)} channels for {num_things_classes} '
            f'thing and {num_stuff_classes} stuff classes, got {tuple(logits.shape)}'
        )
    # max() over channels returns the first of equal values as argmax() does, several times faster.
    labels = logits.max(dim=0).indices
    if found[0] == 'stuff_and_things':
        return labels + num_things_classes
    return labels.masked_fill_(labels < num_things_classes, num_things_classes + num_stuff_classes)


@torch.no_grad()
def compose_panoptic_map(
    owner: Tensor, labels: Tensor, stuff: Tensor, num_classes: int, stuff_area_limit: int
) -> Tensor:
    """Lays the instances over the stuff and makes small stuff void.

    Args:
        owner (Tensor): (H, W) int64, index of the object that owns the pixel, -1 for none.
        labels (Tensor): (K,) int64, the objects' classes.
        stuff (Tensor): (H, W) int64, stuff classes, ``num_classes`` for void.
        num_classes (int): Of things and stuff together.
        stuff_area_limit (int): A stuff class with fewer visible pixels becomes void.

    Returns:
        Tensor: (H, W) int64. A thing is ``label + id * INSTANCE_OFFSET``, ids from 1 in the order
        of the objects that have pixels; stuff is its label; void is ``num_classes``.
    """
    free = owner < 0
    area = torch.bincount(stuff[free], minlength=num_classes + 1)
    relabel = torch.arange(num_classes + 1, device=stuff.device)
    relabel[area < stuff_area_limit] = num_classes

    visible = torch.bincount(owner[~free], minlength=len(labels)) > 0
    segment = labels + visible.cumsum(0) * INSTANCE_OFFSET
    # One table for both: stuff and void first, then the objects.
    table = torch.cat([relabel, segment])
    return table[torch.where(free, stuff, owner + num_classes + 1)]


def _either(accepted: dict[str, int]) -> str:
    return ' or '.join(f'{channels} ({name})' for name, channels in accepted.items())
