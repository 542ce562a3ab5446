"""What an order rule is: evidence of who is in front in an occluded pair (section 3.3).

Shapes: K objects, M pairs, H x W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from mmbanet.structures import ClaimRegions


class OrderRule(ABC):
    """Weighs who is in front in each of the occluded pairs.

    To add a rule, subclass this and register it in ``mmbanet.registry.MODELS``. A rule is
    deterministic, and antisymmetric: the pair (j, i) has the evidence of (i, j) with the sign
    turned.
    """

    #: Whether :meth:`evidence` looks at the image, which is None otherwise.
    needs_image: bool = True

    @property
    def name(self) -> str:
        """What decided a pair, in :class:`~mmbanet.structures.OcclusionGraph`."""
        return type(self).__name__

    @abstractmethod
    def evidence(self, image: Tensor, regions: ClaimRegions, pairs: Tensor) -> Tensor:
        """Who is in front, and by how much.

        Args:
            image: (3, H, W) RGB in 0..255.
            regions: The masks of K objects: the pixels and who claims them.
            pairs: (M, 2) int64, objects that share pixels.

        Returns:
            (M,) float64 in the rule's own unit, positive where the first is in front,
            negative where the second is, 0 where the rule cannot tell.
        """
