"""Checks of values that several rooms take."""

from __future__ import annotations

from math import isnan

from torch import Tensor


def check_not_nan(values: Tensor, name: str, cause: str = '') -> None:
    """No value is NaN, which has no place in an order.

    Raises:
        ValueError: Some are; says how many of what, and the likely cause.
    """
    # A sum is read once, without a map of its own; infinities can make it NaN, too.
    if isnan(values.sum()) and values.isnan().any():
        count = int(values.isnan().sum())
        raise ValueError(f'{name} must not be NaN, got {count} NaN values{cause}')
