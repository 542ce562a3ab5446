"""Checks of the arguments of occlusion handling: one clear error each."""

from __future__ import annotations

import math
from numbers import Real

import torch
from mmcv.ops import batched_nms
from torch import Tensor

from mmbanet.structures import check_not_nan


def check_masks(masks: Tensor) -> None:
    """Boolean masks (K, H, W)."""
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        raise TypeError(f'masks must be a bool tensor, got {_kind(masks)}')
    if masks.ndim != 3:
        raise ValueError(f'masks must have the shape (K, H, W), got {tuple(masks.shape)}')


def check_scores(scores: Tensor, num_objects: int) -> None:
    """One score for each object, none of them NaN."""
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        raise TypeError(f'scores must be a floating-point tensor, got {_kind(scores)}')
    if tuple(scores.shape) != (num_objects,):
        raise ValueError(
            f'scores must have the shape ({num_objects},), one for each of the masks, '
            f'got {tuple(scores.shape)}'
        )
    check_not_nan(scores, 'scores')


def check_labels(labels: Tensor, num_objects: int, num_things_classes: int) -> None:
    """Classes (K,) of things: integers in 0..T-1."""
    if num_objects == 0:
        return  # of which mmdet's SOLO makes a floating-point tensor
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        raise TypeError(f'labels must be an integer tensor, got {_kind(labels)}')
    if tuple(labels.shape) != (num_objects,):
        raise ValueError(f'labels must have the shape ({num_objects},), got {tuple(labels.shape)}')
    low, high = (bound.item() for bound in torch.aminmax(labels))
    if low < 0 or high >= num_things_classes:
        raise ValueError(
            f'labels must be classes of things, 0..{num_things_classes - 1} with '
            f'num_things_classes={num_things_classes}, got {low}..{high}'
        )


def check_image(image: Tensor, size: tuple[int, int]) -> None:
    """RGB (3, H, W) in 0..255 of the masks' size (H, W)."""
    if not isinstance(image, Tensor) or image.dtype == torch.bool or image.is_complex():
        raise TypeError(f'image must be a tensor (3, H, W) of numbers, got {_kind(image)}')
    expected = (3, *size)
    if tuple(image.shape) != expected:
        channels_last = '; permute(2, 0, 1) it' if tuple(image.shape) == (*size, 3) else ''
        raise ValueError(
            f'image must have the shape {expected}, RGB at the resolution of the masks, '
            f'got {tuple(image.shape)}{channels_last}'
        )
    if image.numel() == 0:
        return
    low, high = torch.stack(torch.aminmax(image)).tolist()
    # The slack is for de-normalising and interpolating; `not` also refuses NaN.
    if not (low >= -1 and high <= 256):
        raise ValueError(
            f'image must be RGB in 0..255, got values from {low:.4g} to {high:.4g}; '
            'a normalised image must be de-normalised first'
        )


def check_preference(preference: Tensor, num_objects: int) -> None:
    """Antisymmetric int8 (K, K) of -1, 0 and 1."""
    if not isinstance(preference, Tensor) or preference.dtype != torch.int8:
        raise TypeError(f'preference must be an int8 tensor, got {_kind(preference)}')
    if tuple(preference.shape) != (num_objects, num_objects):
        raise ValueError(
            f'preference must have the shape {(num_objects, num_objects)}, '
            f'got {tuple(preference.shape)}'
        )
    if (preference.abs() > 1).any() or (preference == -128).any():
        raise ValueError(
            f'preference must hold -1, 0 and 1 only, got {preference.unique().tolist()}'
        )
    if (preference != -preference.T).any():
        i, j = (preference != -preference.T).nonzero()[0].tolist()
        raise ValueError(
            'preference must be antisymmetric, preference[i, j] == -preference[j, i], '
            f'got {int(preference[i, j])} at [{i}, {j}] and {int(preference[j, i])} at [{j}, {i}]'
        )


def check_common_settings(test_cfg: dict) -> None:
    """What all fusion heads share: ``score_thr``, ``nms`` and ``stuff_area_limit``."""
    score, nms, area = (test_cfg[name] for name in ('score_thr', 'nms', 'stuff_area_limit'))
    if isinstance(score, bool) or not isinstance(score, Real):
        raise TypeError(f'test_cfg.score_thr must be a number, got {score!r}')
    if math.isnan(score):
        raise ValueError('test_cfg.score_thr must be a number, got NaN')
    if nms is not None and not isinstance(nms, dict):
        raise TypeError(f'test_cfg.nms must be a dict or None, got {nms!r}')
    if nms is not None:
        try:
            batched_nms(torch.ones(1, 4), torch.ones(1), torch.zeros(1), dict(nms), True)
        except (NameError, SyntaxError, TypeError, ValueError) as error:
            raise ValueError(
                f'test_cfg.nms must be nms_cfg of mmcv.ops.batched_nms, got {nms!r}: {error}'
            ) from error
    if isinstance(area, bool) or not isinstance(area, Real) or not area >= 0:
        raise ValueError(f'test_cfg.stuff_area_limit must be a number of pixels, got {area!r}')


def check_threshold(name: str, value: float) -> None:
    """A share of an area."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f'{name} must be a number in 0..1, got {value!r}')
    if not 0 <= value <= 1:
        raise ValueError(f'{name} must be in 0..1, got {value}')


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """One of a few words."""
    if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')


def _kind(value: object) -> str:
    return f'{value.dtype} tensor' if isinstance(value, Tensor) else type(value).__name__
