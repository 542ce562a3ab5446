"""Overlap handling and fusion of instances and semantics (sections 3.3, 3.4 and 4.3)."""

from .appearance import AppearanceModel, ColorHistogram, LabGaussian, MeanColor
from .graph import OcclusionGraph
from .heuristic import resolve_by_score
from .occlusion import explain_occlusion, resolve_occlusion
from .occlusion_aware_fusion_head import OcclusionAwareFusionHead
from .panoptic_map import compose_panoptic_map
from .selection import select_detections
from .semantics import semantic_labels

__all__ = [
    'AppearanceModel',
    'ColorHistogram',
    'LabGaussian',
    'MeanColor',
    'OcclusionAwareFusionHead',
    'OcclusionGraph',
    'compose_panoptic_map',
    'explain_occlusion',
    'resolve_by_score',
    'resolve_occlusion',
    'select_detections',
    'semantic_labels',
]
