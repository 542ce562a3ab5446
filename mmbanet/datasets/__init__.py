"""Data sets and transforms; importing this registers all of them."""

from .load_panoptic_annotations import LoadPanopticAnnotations
from .panoptic_annotations import PanopticAnnotations
from .panoptic_copy_paste import PanopticCopyPaste
from .panoptic_dataset import PanopticDataset, load_panoptic_map

__all__ = [
    'LoadPanopticAnnotations',
    'PanopticAnnotations',
    'PanopticCopyPaste',
    'PanopticDataset',
    'load_panoptic_map',
]
