"""Where a panoptic model spends its time: readings of a clock or counter, stage by stage.

A stage is one or more methods of the model. What a method calls that is a stage itself counts there
only, so the stages add up to the total.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from unittest.mock import patch

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmbanet.models.detectors import banet

REST = 'rest'
# Part of the model, its method, the stage. The semantic head of PanopticFPN resizes its logits in
# ``predict``; BANet resizes them in ``label_maps`` below.
METHODS = (
    ('backbone', 'forward', 'backbone'),
    ('neck', 'forward', 'neck'),
    ('rpn_head', 'predict', 'RPN'),
    ('roi_head', 'predict_bbox', 'box head'),
    ('roi_head', 'predict_mask', 'mask head'),
    ('roi_head.mask_head', 'predict_by_feat', 'mask pasting'),
    ('semantic_head', 'forward', 'semantic head'),
    ('semantic_head', 'predict', 'semantic resizing'),
    ('', '_instance_features', 'I2S'),
    ('', '_i2s_logits', 'I2S'),
    ('panoptic_head.pixel_decoder', 'forward', 'pixel decoder'),
    ('panoptic_head', 'forward', 'transformer decoder'),
    ('panoptic_head', 'predict', 'mask resizing'),
    ('panoptic_fusion_head', 'predict', 'fusion'),
)
# Functions that BANet calls beside its parts.
FUNCTIONS = (('label_maps', 'semantic resizing'), ('rgb_images', 'fusion'))
# Lines of the table, which the stages add up to.
GROUPS = {
    'backbone, FPN': ('backbone', 'neck'),
    'RPN': ('RPN',),
    'RoI heads': ('box head', 'mask head', 'mask pasting'),
    'semantic': ('semantic head', 'I2S', 'semantic resizing'),
    'pixel decoder': ('pixel decoder',),
    'transformer': ('transformer decoder',),
    'fusion': ('mask resizing', 'fusion'),
    REST: (REST,),
}


class Spans:
    """Sums a rising reading over named spans that may be nested; the innermost one counts.

    Args:
        read: The reading, such as seconds since some time.
    """

    def __init__(self, read: Callable[[], float]) -> None:
        self.read = read
        self.sums: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._last = 0.0

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """What is read until the end of the block belongs to ``name``."""
        self._close_interval()
        self._open.append(name)
        try:
            yield
        finally:
            self._close_interval()
            self._open.pop()

    def _close_interval(self) -> None:
        now = self.read()
        if self._open:
            self.sums[self._open[-1]] += now - self._last
        self._last = now

    def wrap(self, function: Callable, name: str) -> Callable:
        """The same function, each call of which is a span."""

        def spanned(*args, **kwargs):
            with self.span(name):
                return function(*args, **kwargs)

        return spanned


def by_stage(model: nn.Module, run: Callable[[], object], read: Callable[[], float]) -> dict:
    """How much ``read`` rises in each stage of ``run``, and outside of them (``'rest'``).

    Args:
        model: Its methods are wrapped for the time of the call.
        run: Calls the model's ``predict``.
        read: A reading that never falls, such as :func:`clock`.
    """
    spans = Spans(read)
    with ExitStack() as stack:
        for path, method, stage in METHODS:
            part = reduce(
                lambda x, name: getattr(x, name, None), filter(None, path.split('.')), model
            )
            if hasattr(part, method):
                wrapped = spans.wrap(getattr(part, method), stage)
                stack.enter_context(patch.object(part, method, wrapped))
        for function, stage in FUNCTIONS:
            wrapped = spans.wrap(getattr(banet, function), stage)
            stack.enter_context(patch.object(banet, function, wrapped))
        with spans.span(REST):
            run()
    return dict(spans.sums)


def milliseconds_by_stage(model: nn.Module, run: Callable[[], object], device: str) -> dict:
    """Milliseconds of each stage; on ``'cuda'`` the device is waited for between the stages."""
    return by_stage(model, run, clock(device))


def clock(device: str) -> Callable[[], float]:
    """Milliseconds since some time; the work given to the device so far is done."""

    def read() -> float:
        if device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter() * 1e3

    return read


def _product_in_place(total: torch.Size, first: torch.Size, second: torch.Size, **_) -> int:
    """FLOPs of ``total += first @ second``, from shapes."""
    return 2 * math.prod(first) * second[1]


# How mmcv's deformable convolution multiplies, which PyTorch's counter does not know.
IN_PLACE = {torch.ops.aten.addmm_: _product_in_place}


def gmacs_by_stage(model: nn.Module, run: Callable[[], object]) -> dict:
    """1e9 multiply-adds of each stage, of the convolutions and matrix products that run."""
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        sums = by_stage(model, run, counter.get_total_flops)
    return {stage: flops / 2e9 for stage, flops in sums.items()}
