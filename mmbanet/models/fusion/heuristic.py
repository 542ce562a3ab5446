"""Fusion without occlusion handling: Kirillov et al., Panoptic Segmentation (CVPR 2019)."""

from __future__ import annotations

from torch import Tensor

from .duplicates import DuplicateFilter
from .occlusion import explain_occlusion
from .settings import OcclusionSettings


def resolve_by_score(
    masks: Tensor, scores: Tensor, removal_thr: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Lays objects in descending score; an object whose pixels are mostly taken is dropped.

    The same decisions as the official panopticapi: an object takes what is free of its mask, unless
    more than ``removal_thr`` of it is taken already. Equal scores: the lower index first.

    Args:
        masks: (K, H, W) bool.
        scores: (K,) floating point.
        removal_thr: Share of an object's area, 0..1; mmdet's ``mask_overlap``.

    Returns:
        ``owner`` (H, W) int64, the index of the object that owns the pixel or -1, and
        ``keep`` (K,) bool, False for dropped objects and for empty masks.
    """
    owner, graph = explain_occlusion(masks, scores, settings=score_order(removal_thr))
    return owner, graph.keep.to(masks.device)


def score_order(removal_thr: float, duplicates: DuplicateFilter | None = None) -> OcclusionSettings:
    """The heuristic as settings: no rule knows better than the score, and front to back."""
    return OcclusionSettings(
        removal_thr=removal_thr, order=(), removal='front_to_back', duplicates=duplicates
    )
