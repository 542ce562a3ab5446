"""Scenes composed of photographs: cut-outs of things in frames of a COCO panoptic data set.

The order of a cut-out and whatever it overlaps is known by construction: ``occluded_pairs`` of an
annotation lists the ids of such things, [front, behind]. What is of the frame has the mask that is
seen of it there, and may be void in part.
"""

from .generate import compose_scenes
from .writer import INSTANCE_MASKS

__all__ = ['INSTANCE_MASKS', 'compose_scenes']
