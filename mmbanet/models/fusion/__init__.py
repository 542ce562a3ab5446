"""Overlap handling and fusion of instances and semantics (sections 3.3, 3.4 and 4.3)."""

from .heuristic import resolve_by_score
from .occlusion import resolve_occlusion
from .occlusion_aware_fusion_head import OcclusionAwareFusionHead
from .panoptic_map import compose_panoptic_map, stuff_labels
from .selection import select_detections

__all__ = [
    'OcclusionAwareFusionHead',
    'compose_panoptic_map',
    'resolve_by_score',
    'resolve_occlusion',
    'select_detections',
    'stuff_labels',
]
