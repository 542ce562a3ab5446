"""The smaller object in front: a tie on a person, and no look at the image."""

from __future__ import annotations

from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .order_rule import OrderRule


@MODELS.register_module()
class SmallerInFront(OrderRule):
    """The evidence is how many pixels less the mask has."""

    needs_image = False

    def evidence(self, image: Tensor | None, regions: ClaimRegions, pairs: Tensor) -> Tensor:
        """See :meth:`OrderRule.evidence`."""
        first, second = regions.areas[pairs].unbind(dim=1)
        return (second - first).double()
