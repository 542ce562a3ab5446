"""Data sets; importing this registers all of them."""

from .panoptic_dataset import PanopticDataset, load_panoptic_map
from .scenes_dataset import ScenesDataset

__all__ = ['PanopticDataset', 'ScenesDataset', 'load_panoptic_map']
