"""Stops training at a loss that is NaN or infinite, before it reaches the weights."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmbanet.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Looks at the losses of every batch after the forward pass, of any model that mmdet trains.

    All ranks agree on what is done with a batch. With mixed precision a gradient can be infinite,
    which its scaler answers; a loss cannot.

    Args:
        skip: How many such batches in a row are left out, with a warning, before training stops. A
            batch that is left out changes neither weights nor buffers (such as running means), and
            its losses are not logged; with gradient accumulation the next one takes its place.

    Raises:
        FloatingPointError: While training; names the iteration, the losses and the batch's images.
        ValueError: ``skip`` is negative.
    """

    priority = 'HIGHEST'  # in front of what logs the losses

    def __init__(self, skip: int = 0) -> None:
        if skip < 0:
            raise ValueError(f'skip must be at least 0, got {skip}')
        self.skip = skip
        self._skipped = 0  # batches in a row, the current one included

    def before_train(self, runner: Runner) -> None:
        """Watches the model's forward passes."""
        self._runner = runner
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._handles = [model.register_forward_hook(self._check, with_kwargs=True)]
        if self.skip:
            self._handles.append(model.register_forward_pre_hook(self._keep_buffers))
            self._update_params = runner.optim_wrapper.update_params
            runner.optim_wrapper.update_params = self._update_unless_skipped

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Keeps the losses of a batch that was left out from being logged."""
        if self._skipped and outputs is not None:
            outputs.clear()

    def after_train(self, runner: Runner) -> None:
        """Lets go of the model and the optimizer."""
        for handle in self._handles:
            handle.remove()
        if self.skip:
            del runner.optim_wrapper.update_params  # what remains is the class's own

    def _keep_buffers(self, model: nn.Module, _: tuple) -> None:
        self._buffers = [buffer.clone() for buffer in model.buffers()]

    def _update_unless_skipped(self, *args, **kwargs) -> None:
        if not self._skipped:
            self._update_params(*args, **kwargs)

    @torch.no_grad()
    def _check(self, model: nn.Module, args: tuple, kwargs: dict, losses: Any) -> None:
        """Called with what the model was called with and what it returned."""
        if kwargs.get('mode') != 'loss':
            return
        totals = _totals(losses)
        count = (~torch.stack(list(totals.values())).isfinite()).sum()
        all_reduce(count)
        if count == 0:
            self._skipped = 0
            return
        self._skipped += 1
        infinite = {name: total for name, total in totals.items() if not total.isfinite()}
        named = [f'{name} = {total.item()}' for name, total in infinite.items()]
        images = list(_image_names(kwargs.get('data_samples', args)))
        message = self._message(all_gather_object((named, images)), model)
        if self._skipped > self.skip:
            raise FloatingPointError(message)
        self._runner.logger.warning(f'{message}; the batch is left out')
        for buffer, kept in zip(model.buffers(), self._buffers):
            buffer.copy_(kept)

    def _message(self, of_ranks: list[tuple[list[str], list[str]]], model: nn.Module) -> str:
        parts = [
            f'{", ".join(named)} of the images {", ".join(images) or "(unnamed)"}'
            for named, images in of_ranks
            if named
        ]
        text = f'iteration {self._runner.iter + 1}: loss not finite: {"; ".join(parts)}'
        for name, weight in model.named_parameters():
            if not weight.isfinite().all():
                return f'{text}; {name} was not finite before: the learning rate may be too high'
        return text


def _totals(losses: dict[str, Tensor | list[Tensor]]) -> dict[str, Tensor]:
    """What each loss adds to the sum that MMEngine minimises; others, such as accuracy, do not."""
    return {
        name: value.mean() if isinstance(value, Tensor) else sum(part.mean() for part in value)
        for name, value in losses.items()
        if 'loss' in name
    }


def _image_names(samples: Any) -> Iterator[str]:
    """Paths (or ids) of the data samples in however nested a batch."""
    if isinstance(samples, (list, tuple, dict)):
        for part in samples.values() if isinstance(samples, dict) else samples:
            yield from _image_names(part)
    elif isinstance(samples, BaseDataElement):
        yield str(samples.get('img_path') or samples.get('img_id', '(unnamed)'))
