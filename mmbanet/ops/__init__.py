"""Operators on crops and maps; they need nothing but torch.

RoIInlay and RoIUpsample put crops of RoIAlign back into the map. On other devices than the CPU,
RoIAlign is mmcv's.
"""

from .resized_argmax import bilinear_matrix, resized_argmax
from .roi_align import RoIAlign, roi_align
from .roi_inlay import RoIInlay, roi_inlay
from .roi_upsample import RoIUpsample, roi_upsample

__all__ = [
    'RoIAlign',
    'RoIInlay',
    'RoIUpsample',
    'bilinear_matrix',
    'resized_argmax',
    'roi_align',
    'roi_inlay',
    'roi_upsample',
]
