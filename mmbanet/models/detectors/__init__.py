"""Detectors."""

from .banet import BANet
from .instance_semantic_fusion import InstanceSemanticFusion
from .panoptic_tta import PanopticTTAModel

__all__ = ['BANet', 'InstanceSemanticFusion', 'PanopticTTAModel']
