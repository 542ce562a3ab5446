"""SIGKILL at random moments and ``--resume``: the final model is that of a run left alone."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from . import small
from .children import run_tool, start_tool
from .row import Outcome, Row, count, number_of

ITERATIONS = 8
# Every second iteration is saved, so that some of what was trained is lost with the kill.
SAVES = ('default_hooks.checkpoint.interval=2',)
# All of them see the same batches.
_WORKERS = (0, 2)


@contextmanager
def without_placed_seeds() -> Iterator[None]:
    """Random numbers go on from the start of the process."""
    from mmbanet.engine import PlaceSeedHook

    with patch.object(PlaceSeedHook, 'before_train_iter', lambda *_, **__: None):
        yield


@contextmanager
def without_placed_samples() -> Iterator[None]:
    """Augmentations depend on what was drawn before."""
    from mmbanet.datasets import panoptic_dataset

    with patch.object(panoptic_dataset, 'randomness_of', lambda _: nullcontext()):
        yield


@contextmanager
def without_place_in_the_data() -> Iterator[None]:
    """Every start begins with the first image."""
    from mmbanet.datasets import PlacedSampler

    with patch.object(PlacedSampler, 'skip', lambda *_: None):
        yield


def run(cases: int | str, folder: Path) -> Outcome:
    """Trains once without interruption, and then with one or two."""
    scenes = small.make_scenes(folder / 'scenes')
    options = (f'train_cfg.max_iters={ITERATIONS}', *small.NO_VALIDATION, *SAVES)
    whole = folder / 'whole'
    status, child = run_tool('train.py', *small.arguments(scenes, whole, *options), folder=whole)
    if status:
        raise RuntimeError(f'the uninterrupted training failed: {child.last_line()}')
    expected = torch.load(whole / f'iter_{ITERATIONS}.pth', weights_only=False)
    rng = random.Random(0)

    def attempt(case: int) -> str | None:
        work_dir = folder / f'run_{case}'
        workers = f'train_dataloader.num_workers={_WORKERS[case % len(_WORKERS)]}'
        command = small.arguments(scenes, work_dir, *options, workers)
        interrupt(command, work_dir, rng)
        status, child = run_tool('train.py', *command, '--resume', folder=work_dir)
        if status:
            return f'--resume ended with status {status}: {child.last_line()}'
        found = torch.load(work_dir / f'iter_{ITERATIONS}.pth', weights_only=False)
        for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
            path = first_difference(expected[part], found[part], part)
            if path:
                return f'{workers}: {path} differs'
        return None

    numbers = range(number_of(cases))
    return count((f'run {case + 1}', partial(attempt, case)) for case in numbers)


def interrupt(command: list[str], work_dir: Path, rng: random.Random) -> None:
    """Kills a training in some iteration after the first save."""
    child = start_tool('train.py', *command, folder=work_dir)
    iteration = rng.randint(2, ITERATIONS - 1)
    if not child.wait_for(f'Iter(train) [{iteration}/{ITERATIONS}]'):
        raise RuntimeError(f'the training failed: {child.last_line()}')
    if iteration == 2:
        child.wait_for('Iter(train) [3/')  # the second one's checkpoint is written by then
    time.sleep(rng.uniform(0, 0.2))
    child.kill()


def first_difference(expected: Any, found: Any, path: str) -> str:
    """Where two nested structures differ first, '' for nowhere; tensors bit by bit."""
    if isinstance(expected, torch.Tensor):
        same = expected.dtype == found.dtype and torch.equal(expected, found)
        return '' if same else path
    if isinstance(expected, dict):
        if expected.keys() != found.keys():
            return path
        parts = ((key, expected[key], found[key]) for key in expected)
    elif isinstance(expected, (list, tuple)):
        if len(expected) != len(found):
            return path
        parts = zip(range(len(expected)), expected, found)
    else:
        return '' if expected == found else path
    return next(filter(None, (first_difference(a, b, f'{path}.{k}') for k, a, b in parts)), '')


ROW = Row(
    'kill-and-resume',
    'SIGKILL in a random iteration, `--resume`: weights, their average, optimizer and schedule end '
    'bitwise equal to those of a run left alone (CPU, 0 and 2 workers)',
    20,
    run,
    {
        'placed-seeds': without_placed_seeds,
        'placed-samples': without_placed_samples,
        'place-in-the-data': without_place_in_the_data,
    },
)
