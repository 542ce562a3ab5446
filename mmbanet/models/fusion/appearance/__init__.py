"""Appearance models: how well an object's colours explain those of an overlap (section 3.3)."""

from .appearance_model import AppearanceModel
from .color_histogram import ColorHistogram
from .lab_gaussian import LabGaussian
from .mean_color import MeanColor

__all__ = ['AppearanceModel', 'ColorHistogram', 'LabGaussian', 'MeanColor']
