"""Metrics; importing this registers all of them."""

from .occlusion_metric import OcclusionMetric
from .panoptic_instance_metric import PanopticInstanceMetric
from .panoptic_metric import PanopticMetric

__all__ = ['OcclusionMetric', 'PanopticInstanceMetric', 'PanopticMetric']
