"""Duplicates, fragments and leaks of one object, told apart from occlusion before it is resolved.

Shapes: K objects, M pairs, H x W pixels.
"""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from .checks import check_threshold
from .order import ContourContrast


@MODELS.register_module()
class DuplicateFilter:
    """Finds objects that are another one of higher score once more.

    A pair is taken for one object, seen twice, where the masks agree (their IoU) or one lies in
    the other (the share of the smaller that both claim), and no contour of either is seen inside
    the other: an occluder has one, a duplicate and a fragment have none. Objects are looked at in
    descending order of score; one that is a duplicate of one that stays is dropped.

    Args:
        iou: The masks agree from this IoU on, 0..1; None: that is no reason.
        containment: One lies in the other from this share of the smaller on, 0..1; None: that is
            no reason.
        same_class: Only objects of one class can be duplicates.
        visible: A contour of this strength, in Lab units (see :class:`ContourContrast`), and more
            is seen. ``inf``: contours, and so the image, are not looked at.
    """

    def __init__(
        self,
        iou: float | None = 0.5,
        containment: float | None = 0.9,
        same_class: bool = False,
        visible: float = 8.0,
    ) -> None:
        if iou is not None:
            check_threshold('iou', iou)
        if containment is not None:
            check_threshold('containment', containment)
        if not isinstance(same_class, bool):
            raise TypeError(f'same_class must be True or False, got {same_class!r}')
        if isinstance(visible, bool) or not isinstance(visible, Real):
            raise TypeError(f'visible must be a number of Lab units, got {visible!r}')
        if not visible >= 0:
            raise ValueError(f'visible must be 0 or more, got {visible}')
        self.iou = iou
        self.containment = containment
        self.same_class = same_class
        self.visible = visible
        self.contour = ContourContrast()

    @property
    def needs_image(self) -> bool:
        """Whether :meth:`find` looks at the image."""
        return self.visible != float('inf')

    def find(
        self,
        image: Tensor | None,
        regions: ClaimRegions,
        scores: Tensor,
        labels: Tensor | None = None,
        known: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The objects to be dropped, in descending order of score.

        Args:
            image: (3, H, W) RGB in 0..255; None where it is not looked at.
            regions: The masks of K objects.
            scores: (K,). Equal scores: the lower index stays.
            labels: (K,) integers, classes; needed with ``same_class``.
            known: (K, K) bool, pairs that are two objects for sure.

        Returns:
            (D, 2) int64, (dropped, kept), and (D, 2) float64, the IoU of the two and the share of
            the smaller one that both claim; on the CPU.
        """
        if self.same_class and labels is None:
            raise ValueError('labels must be given to find duplicates of the same class, got None')
        overlaps = regions.overlaps.cpu()
        areas = overlaps.diagonal()
        smaller = torch.minimum(areas[:, None], areas).clamp(min=1)
        union = (areas[:, None] + areas - overlaps).clamp(min=1)
        iou, containment = overlaps / union, overlaps / smaller
        alike = torch.zeros_like(overlaps, dtype=torch.bool)
        if self.iou is not None:
            alike |= iou >= self.iou
        if self.containment is not None:
            alike |= containment >= self.containment
        alike &= overlaps > 0
        if self.same_class:
            alike &= (labels[:, None] == labels).cpu()
        if known is not None:
            alike &= ~known.cpu()
        pairs = alike.triu(diagonal=1).nonzero()
        if self.needs_image and len(pairs):
            contours = torch.cat([pairs, pairs.flip(1)]).to(regions.size.device)
            strength = self.contour.strengths(image, regions, contours).cpu().nan_to_num(0)
            seen = torch.maximum(*strength.chunk(2)) >= self.visible
            pairs = pairs[~seen]
        partners = {k: set() for k in pairs.flatten().tolist()}
        for i, j in pairs.tolist():
            partners[i].add(j)
            partners[j].add(i)

        found, stay = [], []
        for k in scores.cpu().argsort(descending=True, stable=True).tolist():
            kept = next((other for other in stay if other in partners.get(k, ())), None)
            if kept is None:
                stay.append(k)
            else:
                found.append((k, kept))
        found = torch.tensor(found, dtype=torch.int64).view(-1, 2)
        dropped, kept = found.unbind(dim=1)
        return found, torch.stack([iou[dropped, kept], containment[dropped, kept]], dim=1)
