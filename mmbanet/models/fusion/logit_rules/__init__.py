"""Fusion by logits, as others do it: a rule a file."""

from .efficientps import EfficientPSRule
from .jsis import JSISRule
from .mask_wise import MaskWiseRule
from .rule import LogitRule
from .upsnet import UPSNetRule

RULES: dict[str, type[LogitRule]] = dict(
    upsnet=UPSNetRule, efficientps=EfficientPSRule, jsis=JSISRule, mask_wise=MaskWiseRule
)

__all__ = ['RULES', 'LogitRule']
