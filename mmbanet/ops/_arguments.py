"""Checks of arguments that the compiled operators cannot make: they only see tensors and numbers.

Shapes, dtypes, devices and ranges are checked by the operators themselves
(``ops/mmbanet_ops.cpp``), which raise ``ValueError`` and ``TypeError`` too.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch


def check_arguments(
    input: Any, rois: Any, batch_size: Any, spatial_scale: Any, aligned: Any
) -> None:
    """Raises TypeError naming the first argument that has the wrong type."""
    check_tensors(input=input, rois=rois)
    _check_int('batch_size', batch_size)
    _check_grid(spatial_scale, aligned)


def check_roi_align_arguments(
    input: Any, rois: Any, spatial_scale: Any, sampling_ratio: Any, aligned: Any
) -> None:
    """Raises TypeError naming the first argument that has the wrong type."""
    check_tensors(input=input, rois=rois)
    _check_int('sampling_ratio', sampling_ratio)
    _check_grid(spatial_scale, aligned)


def check_tensors(**values: Any) -> None:
    """Raises TypeError naming the first value that is no tensor."""
    for name, value in values.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(value).__name__}')


def parse_output_size(output_size: Any) -> tuple[int, int]:
    """(height, width) of the map, from any sequence of two ints."""
    if (
        not isinstance(output_size, Sequence)
        or len(output_size) != 2
        or not all(_is_int(side) for side in output_size)
    ):
        raise TypeError(f'output_size must be two ints (height, width), got {output_size!r}')
    height, width = output_size
    return height, width


def _check_int(name: str, value: Any) -> None:
    if not _is_int(value):
        raise TypeError(f'{name} must be an int, got {type(value).__name__}')


def _check_grid(spatial_scale: Any, aligned: Any) -> None:
    if not isinstance(spatial_scale, (Real, torch.SymFloat)):
        raise TypeError(f'spatial_scale must be a number, got {type(spatial_scale).__name__}')
    if not isinstance(aligned, bool):
        raise TypeError(f'aligned must be a bool, got {type(aligned).__name__}')


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)
