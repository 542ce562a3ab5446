"""Mask logits of each detection's own class, before they are thresholded, and its RoI features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmdet.utils import InstanceList
from torch import Tensor, nn


@contextmanager
def recorded_calls(module: nn.Module, wanted: bool = True) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What a module is given and gives when it is called meanwhile; spares running it again.

    Nothing is kept in memory unless it is ``wanted``.
    """
    calls = []
    if not wanted:
        yield calls
        return
    hook = module.register_forward_hook(lambda _, given, output: calls.append((given[0], output)))
    try:
        yield calls
    finally:
        hook.remove()


def own_logits(calls: Sequence[tuple[Tensor, Tensor]], detections: InstanceList) -> InstanceList:
    """Copies of the detections with ``mask_logits`` (N, m, m).

    Args:
        calls: Of the mask head for all detections of the batch in their order, which gives
            (K, classes, m, m), one channel where it is class-agnostic; none where there are no
            detections.
        detections: Of each image, with ``labels``.
    """
    results = []
    start = 0
    for item in detections:
        if calls:
            logits = calls[0][1][start : start + len(item)]
            channels = item.labels if logits.shape[1] > 1 else torch.zeros_like(item.labels)
            logits = logits[torch.arange(len(item), device=logits.device), channels]
        else:
            logits = item.bboxes.new_zeros((len(item), 1, 1))
        start += len(item)
        result = item[:]
        result.mask_logits = logits
        results.append(result)
    return results


def own_features(
    calls: Sequence[tuple[Tensor, Tensor]], detections: InstanceList, shape: tuple[int, int, int]
) -> InstanceList:
    """Copies of the detections with ``roi_features`` (N, C, h, w).

    Args:
        calls: As for :func:`own_logits`; the mask head is given (K, C, h, w).
        detections: Of each image.
        shape: C, h and w.
    """
    features = calls[0][0] if calls else detections[0].bboxes.new_zeros((0, *shape))
    results = [item[:] for item in detections]
    for result, own in zip(results, features.split([len(item) for item in detections])):
        result.roi_features = own
    return results
