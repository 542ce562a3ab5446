"""Pictures of panoptic maps."""

from .panoptic import colorize, draw_grid

__all__ = ['colorize', 'draw_grid']
