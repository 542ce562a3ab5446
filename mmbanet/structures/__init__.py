"""Plain data that models, metrics and pictures share; needs torch and NumPy alone."""

from .checks import check_not_nan
from .claim_regions import ClaimRegions
from .colors import class_color
from .instance_order import instance_order, instance_owner
from .occlusion_graph import OcclusionGraph
from .panoptic_map import (
    INSTANCE_OFFSET,
    PanopticMap,
    decode_ids,
    encode_ids,
    index_segments,
)

__all__ = [
    'INSTANCE_OFFSET',
    'ClaimRegions',
    'OcclusionGraph',
    'PanopticMap',
    'check_not_nan',
    'class_color',
    'decode_ids',
    'encode_ids',
    'index_segments',
    'instance_order',
    'instance_owner',
]
