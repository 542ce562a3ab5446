"""Data sets and transforms; importing this registers all of them."""

from .coco_order import CocoOrder
from .cocoa import CocoaAnnotations
from .kins import KinsAnnotations
from .load_image import LoadImage
from .load_instance_order import LoadInstanceOrder, PackOrderedInputs
from .load_panoptic_annotations import LoadPanopticAnnotations
from .ordered_things import OrderedThings
from .panoptic_annotations import PanopticAnnotations
from .panoptic_copy_paste import PanopticCopyPaste
from .panoptic_dataset import PanopticDataset, load_panoptic_map
from .placed_samplers import PlacedAspectRatioBatchSampler, PlacedSampler

__all__ = [
    'CocoOrder',
    'CocoaAnnotations',
    'KinsAnnotations',
    'LoadImage',
    'LoadInstanceOrder',
    'LoadPanopticAnnotations',
    'OrderedThings',
    'PackOrderedInputs',
    'PanopticAnnotations',
    'PanopticCopyPaste',
    'PanopticDataset',
    'PlacedAspectRatioBatchSampler',
    'PlacedSampler',
    'load_panoptic_map',
]
