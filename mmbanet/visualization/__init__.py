"""Pictures of panoptic maps and of occlusion handling."""

from .occlusion import describe_object, describe_pair, draw_occlusion_graph
from .panoptic import colorize, draw_grid

__all__ = ['colorize', 'describe_object', 'describe_pair', 'draw_grid', 'draw_occlusion_graph']
