"""Order rules: who is in front in an occluded pair (section 3.3)."""

from .color_histogram import ColorHistogram
from .combined_order import CombinedOrder
from .contour_contrast import ContourContrast
from .lab_gaussian import LabGaussian
from .mean_color import MeanColor
from .order_rule import OrderRule
from .smaller_in_front import SmallerInFront

__all__ = [
    'ColorHistogram',
    'CombinedOrder',
    'ContourContrast',
    'LabGaussian',
    'MeanColor',
    'OrderRule',
    'SmallerInFront',
]
