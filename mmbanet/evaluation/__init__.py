"""Metrics; importing this registers all of them."""

from .occlusion_metric import OcclusionMetric

__all__ = ['OcclusionMetric']
