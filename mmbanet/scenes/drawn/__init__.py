"""Drawn scenes of layered things on stuff.

No pixel is void, and a thing of which almost nothing would be visible is not part of the scene. The
masks of the instances are those that COCO's annotators draw: the visible part of a thing, and what
the visible parts of small things hide of it.
"""

from .classes import CATEGORIES, METAINFO, SMALL_THINGS
from .generate import generate_scenes

__all__ = ['CATEGORIES', 'METAINFO', 'SMALL_THINGS', 'generate_scenes']
