"""Pictures of panoptic maps and of occlusion handling."""

from .occlusion import describe_object, describe_pair, draw_occlusion_graph
from .panoptic import class_palette, colorize, draw_grid, write_picture
from .panoptic_visualizer import PanopticVisualizer
from .picture import draw_panoptic, find_errors

__all__ = [
    'PanopticVisualizer',
    'class_palette',
    'colorize',
    'describe_object',
    'describe_pair',
    'draw_grid',
    'draw_occlusion_graph',
    'draw_panoptic',
    'find_errors',
    'write_picture',
]
