"""OCFusion: Lazarow et al., "Learning Instance Occlusion for Panoptic Segmentation" (CVPR 2020)."""

from .head import InstanceOcclusionHead

__all__ = ['InstanceOcclusionHead']
