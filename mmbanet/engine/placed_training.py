"""A training that goes on as if it had never stopped; see ``mmbanet.datasets.placed_samplers``."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmbanet.registry import HOOKS, LOOPS


@HOOKS.register_module()
class PlaceSeedHook(Hook):
    """Seeds Python, NumPy and torch before every iteration: by seed, rank and iteration.

    What is drawn in an iteration then does not depend on what was drawn before, be it before an
    interruption, in a validation or by another hook.
    """

    priority = 'HIGHEST'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seeds all devices."""
        place = [runner.seed, get_rank(), runner.iter]
        first, second, third = np.random.SeedSequence(place).generate_state(3).tolist()
        random.seed(first)
        np.random.seed(second)
        torch.manual_seed(third)


@LOOPS.register_module()
class PlacedTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop, which resumes without loading what was seen before.

    MMEngine does so for its own samplers alone, and in its latest versions; a batch sampler that
    has ``skip`` is asked here.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if hasattr(self.dataloader.batch_sampler, 'skip'):
            self.dataloader_iterator = _Batches(self.dataloader)


class _Batches:
    """Batches without end, from any on; what the loop asks of its iterator."""

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self._batches: Iterator | None = None

    def skip_iter(self, num_iters: int) -> None:
        self._loader.batch_sampler.skip(num_iters)

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = iter(self._loader)
        return next(self._batches)
