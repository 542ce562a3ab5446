"""Resident memory of long runs: what is there after the first tenth is all that is needed."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmbanet.engine.launch import replace_data_root

from . import small
from .children import Child, call_tool
from .row import Outcome, Row, chosen, count

# Of the full form: iterations of training, images to predict, images of an evaluation.
LENGTHS = dict(train=2000, predict=5000, metrics=5000)
LARGEST_GROWTH = 0.02
_MEASUREMENTS = 200
# What is not let go, of all runs; None: nothing is kept.
_kept: list | None = None


@contextmanager
def without_letting_go() -> Iterator[None]:
    """What every iteration, image and evaluation has made is kept."""
    global _kept
    _kept = []
    yield
    _kept = None


class Meter:
    """Resident memory at places of a run."""

    def __init__(self, length: int, out: Path) -> None:
        self.every, self.out, self.found = max(1, length // _MEASUREMENTS), out, []

    def __call__(self, place: int, made: Any = None) -> None:
        """After something was done the ``place``-th time."""
        if _kept is not None:
            _kept.append((made, torch.ones(1 << 15)))
        if place % self.every == 0:
            pages = int(Path('/proc/self/statm').read_text().split()[1])
            self.found.append(pages * os.sysconf('SC_PAGE_SIZE'))
            self.out.write_text(json.dumps(self.found))


def train(length: int, scenes: Path, out: Path) -> None:
    """By the tool, with a hook that measures."""
    from mmengine.runner import Runner

    meter, of_config = Meter(length, out), Runner.from_cfg

    class Measure(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            meter(runner.iter)

    def measured(cfg: Config) -> Runner:
        runner = of_config(cfg)
        runner.register_hook(Measure())
        return runner

    Runner.from_cfg = measured
    options = (
        f'train_cfg.max_iters={length}',
        'train_dataloader.batch_size=1',
        'default_hooks.checkpoint.interval=200',
        'default_hooks.logger.interval=100',
        *small.NO_VALIDATION,
    )
    call_tool('train.py', small.arguments(scenes, out.parent / 'trained', *options))


def predict(length: int, scenes: Path, out: Path) -> None:
    """By the inferencer, image by image."""
    from mmbanet import PanopticInferencer

    inferencer, meter = PanopticInferencer(small.CONFIG, device='cpu'), Meter(length, out)
    images = sorted((scenes / 'val').iterdir())
    for place in range(length):
        meter(place, inferencer.predict(images[place % len(images)]))


def metrics(length: int, scenes: Path, out: Path) -> None:
    """All metrics of the config, over the same few predictions again and again."""
    from mmengine.evaluator import Evaluator
    from mmengine.registry import init_default_scope
    from mmengine.runner import Runner

    from mmbanet.apis.inference import init_model

    init_default_scope('mmdet')
    cfg = Config.fromfile(small.CONFIG)
    replace_data_root(cfg, str(scenes))
    loader = Runner.build_dataloader(cfg.test_dataloader)
    model = init_model(cfg)
    batches = list(loader)
    predicted = [(batch, model.test_step(batch)) for batch in batches]
    evaluator, meter = Evaluator(cfg.test_evaluator), Meter(length, out)
    evaluator.dataset_meta = loader.dataset.metainfo
    for place in range(length):
        batch, samples = predicted[place % len(predicted)]
        evaluator.process(samples, batch)
        meter(place)
        if (place + 1) % len(predicted) == 0:  # an evaluation has each image once
            evaluator.evaluate(len(predicted))


def growth(found: list[int]) -> float:
    """From the end of the first tenth to the end, as a share."""
    tenth = max(1, len(found) // 10)
    first = statistics.median(found[tenth : tenth + tenth // 2 + 1])
    return statistics.median(found[-(tenth // 2 + 1) :]) / first - 1


def run(cases: int | str, folder: Path) -> Outcome:
    """The three runs; a tenth as long where not all of them are wanted."""
    scenes = small.make_scenes(folder / 'scenes', val=25)
    named = [(function.__name__, function) for function in (train, predict, metrics)]
    wanted = chosen(named, cases)
    shorter = 1 if len(wanted) == len(named) else 10
    grown: dict[str, float] = {}

    def attempt(function: Any) -> str | None:
        name, out = function.__name__, folder / function.__name__ / 'memory.json'
        length = LENGTHS[name] // shorter
        child = Child(function, length, scenes, out, folder=out.parent)
        status = child.wait(1200)
        if status:
            return f'ended with status {status}: {child.last_line()}'
        grown[name] = growth(json.loads(out.read_text()))
        if grown[name] <= LARGEST_GROWTH:
            return None
        return f'{grown[name]:.1%} more memory after {length} than after {length // 10}'

    outcome = count((name, partial(attempt, function)) for name, function in wanted)
    note = ', '.join(f'{name} {share:+.1%}' for name, share in grown.items())
    return outcome._replace(note=note)


ROW = Row(
    'memory',
    '2,000 iterations of training, 5,000 predictions, 5,000 images through the metrics: resident '
    'memory grows by at most 2% after the first tenth',
    3,
    run,
    {'letting-go': without_letting_go},
)
