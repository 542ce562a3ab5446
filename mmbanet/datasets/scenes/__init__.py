"""Generated scenes of layered things on stuff, in COCO's panoptic format.

Beyond the format, for scoring occlusion itself, every annotation of an image has

* ``depth_order``: the ids of its segments from front to back, things before stuff;
* ``segments_info[i]['amodal_rle']``: the segment's full mask, as if nothing were in front of it,
  as COCO's compressed RLE (``counts`` as ASCII).

Laying the full masks by ``depth_order`` gives the PNG.
"""

from .classes import CATEGORIES, METAINFO, SMALL_THINGS
from .generate import generate_scenes

__all__ = ['CATEGORIES', 'METAINFO', 'SMALL_THINGS', 'generate_scenes']
