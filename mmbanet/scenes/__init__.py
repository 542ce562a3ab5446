"""Scenes whose truth about depth is known, as data sets in COCO's panoptic and instances formats.

``drawn`` makes them from nothing, ``photographs`` composes them of the images of another data set,
``data_set`` writes either, ``true_depth`` reads it. Importing this registers ``ScenesDataset``.

``bbox`` (x, y, w, h) and ``area`` are those of the visible pixels. Beyond the format, for scoring
occlusion itself, every annotation of an image has

* ``depth_order``: the ids of its segments from front to back, things before stuff;
* ``segments_info[i]['amodal_rle']``: the segment's full mask within the image, as if nothing were
  in front of it, as COCO's compressed RLE (``counts`` as ASCII).

Laying the full masks by ``depth_order``, the last one first, gives the PNG.
"""

from .drawn import CATEGORIES, METAINFO, SMALL_THINGS, generate_scenes
from .photographs import INSTANCE_MASKS, compose_scenes
from .scenes_dataset import ScenesDataset

__all__ = [
    'CATEGORIES',
    'INSTANCE_MASKS',
    'METAINFO',
    'SMALL_THINGS',
    'ScenesDataset',
    'compose_scenes',
    'generate_scenes',
]
