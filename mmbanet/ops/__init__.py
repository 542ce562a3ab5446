"""Operators on crops and maps; they need nothing but torch.

RoIInlay and RoIUpsample put crops of RoIAlign back into the map.
"""

from .resized_argmax import bilinear_matrix, resized_argmax
from .roi_inlay import RoIInlay, roi_inlay
from .roi_upsample import RoIUpsample, roi_upsample

__all__ = [
    'RoIInlay',
    'RoIUpsample',
    'bilinear_matrix',
    'resized_argmax',
    'roi_inlay',
    'roi_upsample',
]
