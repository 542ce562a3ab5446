"""Occlusion handling and fusion of instances and semantics (sections 3.3, 3.4 and 4.3)."""

from .base import FusionHead
from .compose import compose_panoptic_map
from .duplicates import DuplicateFilter
from .head import OcclusionAwareFusionHead
from .heuristic import resolve_by_score
from .instance_occlusion import InstanceOcclusionHead
from .logit_fusion import LogitFusionHead
from .occlusion import explain_occlusion, resolve_occlusion
from .order import (
    ColorHistogram,
    CombinedOrder,
    ContourContrast,
    LabGaussian,
    MeanColor,
    OrderRule,
    SmallerInFront,
)
from .selection import select_detections
from .settings import OcclusionSettings
from .spatial_ranking import SpatialRankingHead

__all__ = [
    'ColorHistogram',
    'CombinedOrder',
    'ContourContrast',
    'DuplicateFilter',
    'FusionHead',
    'InstanceOcclusionHead',
    'LabGaussian',
    'LogitFusionHead',
    'MeanColor',
    'OcclusionAwareFusionHead',
    'OcclusionSettings',
    'OrderRule',
    'SmallerInFront',
    'SpatialRankingHead',
    'compose_panoptic_map',
    'explain_occlusion',
    'resolve_by_score',
    'resolve_occlusion',
    'select_detections',
]
