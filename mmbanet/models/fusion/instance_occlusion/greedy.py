"""OCFusion's fusion: masks are laid by score, and may take pixels of those that they occlude.

Shapes: K objects, R regions of equal claims.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmbanet.structures import ClaimRegions


def lay_in_order(regions: ClaimRegions, occludes: Tensor, removal_thr: float) -> Tensor:
    """Gives each object what is free of its mask, and what those have that it occludes.

    An object that would lack ``removal_thr`` of its mask or more is left out, and takes nothing.

    Args:
        regions: The pixels and who claims them, objects in descending score.
        occludes: (K, K) bool, True at [i, j] where i, laid after j, takes what j has of its mask.
        removal_thr: Share of the object's area, 0..1; 1 - tau in the paper.

    Returns:
        (R,) int64, the owner of each region or -1.
    """
    # Every object waits for the one before it: on the CPU, a GPU would wait K times for each.
    members, size, occludes = (x.cpu() for x in (regions.members, regions.size, occludes))
    owners = torch.full_like(size, -1)
    for k, claimed in enumerate(members.unbind(dim=1)):
        free = owners < 0
        taken = claimed & (free | occludes[k][owners.clamp(min=0)])
        area = int(size[claimed].sum())
        lacking = area - int(size[taken].sum())
        if area > 0 and lacking / area < removal_thr:
            owners[taken] = k
    return owners.to(regions.size.device)
