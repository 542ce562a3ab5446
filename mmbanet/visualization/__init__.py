"""Pictures of panoptic maps and of occlusion handling."""

from .occlusion import describe_object, describe_pair, draw_occlusion_graph
from .panoptic import class_palette, colorize, draw_grid, write_picture

__all__ = [
    'class_palette',
    'colorize',
    'describe_object',
    'describe_pair',
    'draw_grid',
    'draw_occlusion_graph',
    'write_picture',
]
