"""Mask logits of each detection's own class, before they are thresholded and pasted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmdet.utils import InstanceList
from torch import Tensor, nn


@contextmanager
def recorded_outputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list of what a module gives when it is called meanwhile; spares running it again."""
    outputs = []
    hook = module.register_forward_hook(lambda _, __, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def recorded_inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """As :func:`recorded_outputs`, of what the module is called with."""
    inputs = []
    hook = module.register_forward_pre_hook(lambda _, given: inputs.extend(given))
    try:
        yield inputs
    finally:
        hook.remove()


def own_logits(outputs: Sequence[Tensor], detections: InstanceList) -> InstanceList:
    """Copies of the detections with ``mask_logits`` (N, m, m).

    Args:
        outputs: (K, classes, m, m), the mask head's for all detections of the batch in their order,
            with one channel where it is class-agnostic; nothing where it was not asked, as there
            are none.
        detections: Of each image, with ``labels``.
    """
    results = []
    start = 0
    for item in detections:
        if outputs:
            logits = outputs[0][start : start + len(item)]
            channels = item.labels if logits.shape[1] > 1 else torch.zeros_like(item.labels)
            logits = logits[torch.arange(len(item), device=logits.device), channels]
        else:
            logits = item.bboxes.new_zeros((len(item), 1, 1))
        start += len(item)
        result = item[:]
        result.mask_logits = logits
        results.append(result)
    return results
