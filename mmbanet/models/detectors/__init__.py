"""Detectors."""

from .banet import BANet
from .instance_semantic_fusion import InstanceSemanticFusion

__all__ = ['BANet', 'InstanceSemanticFusion']
