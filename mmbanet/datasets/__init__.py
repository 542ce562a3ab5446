"""Data sets; importing this registers all of them."""

from .panoptic_copy_paste import PanopticCopyPaste
from .panoptic_dataset import PanopticDataset, load_panoptic_map
from .scenes_dataset import IncludeThingsOnTop, ScenesDataset

__all__ = [
    'IncludeThingsOnTop',
    'PanopticCopyPaste',
    'PanopticDataset',
    'ScenesDataset',
    'load_panoptic_map',
]
