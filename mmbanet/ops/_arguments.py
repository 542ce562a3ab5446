"""Checks of arguments that the compiled operators cannot make: they only see tensors and numbers.

Shapes, dtypes, devices and ranges are checked by the operators themselves
(``ops/mmbanet_ops.cpp``), which raise ``ValueError`` and ``TypeError`` too.
"""

import operator
from numbers import Real
from typing import Any

import torch


def check_tensors(**values: Any) -> None:
    """Raises TypeError naming the first value that is no tensor."""
    for name, value in values.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(value).__name__}')


def check_grid(spatial_scale: Any, aligned: Any) -> None:
    """Raises TypeError naming the first argument that has the wrong type."""
    if not isinstance(spatial_scale, (Real, torch.SymFloat)):
        raise TypeError(f'spatial_scale must be a number, got {type(spatial_scale).__name__}')
    if not isinstance(aligned, bool):
        raise TypeError(f'aligned must be a bool, got {type(aligned).__name__}')


def parse_int(name: str, value: Any) -> int:
    """What has ``__index__`` as an int: Python's and NumPy's integers, a tensor of no dimension.

    ``torch.jit.trace`` hands out sizes as such tensors; the trace keeps their values.
    """
    index = _index(value)
    if index is None:
        raise TypeError(f'{name} must be an int, got {type(value).__name__}')
    return index


def parse_output_size(output_size: Any) -> tuple[int, int]:
    """(height, width) of the map, from any sequence of two ints (see :func:`parse_int`)."""
    try:
        height, width = (_index(output_size[i]) for i in range(2))
        if len(output_size) == 2 and height is not None and width is not None:
            return height, width
    except (TypeError, LookupError):
        pass
    raise TypeError(f'output_size must be two ints (height, width), got {output_size!r}')


def parse_crop_size(output_size: Any) -> tuple[int, int]:
    """The same, or one int for both."""
    side = _index(output_size)
    return parse_output_size(output_size) if side is None else (side, side)


def _index(value: Any) -> int | None:
    """The value as an int, which is symbolic where it was; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, torch.SymInt)):  # torch.compile follows its own sizes no further
        return value
    if str(getattr(value, 'dtype', None)).endswith('bool'):  # torch's and NumPy's have an index
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
