"""Plain data that models, metrics and pictures share; needs torch and NumPy alone."""

from .claim_regions import ClaimRegions
from .occlusion_graph import OcclusionGraph
from .panoptic_map import INSTANCE_OFFSET, PanopticMap, decode_ids, encode_ids

__all__ = [
    'INSTANCE_OFFSET',
    'ClaimRegions',
    'OcclusionGraph',
    'PanopticMap',
    'decode_ids',
    'encode_ids',
]
