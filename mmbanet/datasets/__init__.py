"""Data sets; importing this registers all of them."""

from .panoptic_dataset import PanopticDataset, load_panoptic_map
from .scenes_dataset import IncludeThingsOnTop, ScenesDataset

__all__ = ['IncludeThingsOnTop', 'PanopticDataset', 'ScenesDataset', 'load_panoptic_map']
