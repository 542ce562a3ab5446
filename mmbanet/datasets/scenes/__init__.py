"""Generated scenes of layered things on stuff, in COCO's panoptic and instances formats.

Segment ids are unique within an image and are the PNG's R + 256 G + 256² B; ``bbox`` (x, y, w, h)
and ``area`` are those of the visible pixels; no pixel is void. A thing of which almost nothing
would be visible is not part of the scene. Beyond the format, for scoring occlusion itself, every
annotation of an image has

* ``depth_order``: the ids of its segments from front to back, things before stuff;
* ``segments_info[i]['amodal_rle']``: the segment's full mask within the image, as if nothing were
  in front of it, as COCO's compressed RLE (``counts`` as ASCII).

Laying the full masks by ``depth_order``, the last one first, gives the PNG. The masks of the
instances are those that COCO's annotators draw: the visible part of a thing, and what the visible
parts of small things hide of it.
"""

from .classes import CATEGORIES, METAINFO, SMALL_THINGS
from .generate import generate_scenes

__all__ = ['CATEGORIES', 'METAINFO', 'SMALL_THINGS', 'generate_scenes']
