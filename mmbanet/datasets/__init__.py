"""Data sets; importing this registers all of them."""

from .panoptic_dataset import PanopticDataset
from .scenes_dataset import ScenesDataset

__all__ = ['PanopticDataset', 'ScenesDataset']
