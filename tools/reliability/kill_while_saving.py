"""SIGKILL at random moments of saving: what is there afterwards can be resumed from."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from . import small
from .children import run_tool, start_tool
from .row import Outcome, Row, count, number_of

# Seconds after which a save, of about a twentieth of a second, has surely ended.
_LONGEST = 0.1
# Kills in a row of a training, which goes on after each.
_CHAIN = 5


@contextmanager
def without_atomic_saving() -> Iterator[None]:
    """As MMEngine's hook saves."""
    from mmengine.hooks import CheckpointHook

    from mmbanet.engine import AtomicCheckpointHook

    own = [name for name in vars(AtomicCheckpointHook) if name.startswith('_save')]
    with patch.multiple(
        AtomicCheckpointHook,
        __init__=CheckpointHook.__init__,
        **{name: vars(CheckpointHook)[name] for name in own},
    ):
        yield


def run(cases: int | str, folder: Path) -> Outcome:
    """Kills trainings that save after every iteration and keep one checkpoint."""
    scenes = small.make_scenes(folder / 'scenes')
    rng, cases = random.Random(0), number_of(cases)

    def attempts() -> Iterator:
        for case in range(cases):
            work_dir = folder / f'run_{case // _CHAIN}'
            last = case == cases - 1 or (case + 1) % _CHAIN == 0
            yield f'kill {case + 1}', lambda w=work_dir, end=last: kill(scenes, w, rng, end)

    return count(attempts())


def kill(scenes: Path, work_dir: Path, rng: random.Random, last: bool) -> str | None:
    """Starts the training or goes on, kills it while it saves, and looks at what is there."""
    begun = (work_dir / 'last_checkpoint').exists()
    saves = rng.randint(1, 2) if begun else 2  # with one before that is complete
    command = small.arguments(scenes, work_dir, 'train_cfg.max_iters=100', *small.NO_VALIDATION)
    if begun:
        command.insert(1, '--resume')
    child = start_tool('train.py', *command, folder=work_dir)
    if not child.wait_for('Saving checkpoint at', saves):
        return f'did not come to a save: {child.last_line()}'
    time.sleep(rng.uniform(0, _LONGEST))
    child.kill()
    steps = [int(step) for step in re.findall(r'Saving checkpoint at (\d+)', child.text())]
    return whole_checkpoint(work_dir, steps[-1] - 1) or (
        goes_on(scenes, work_dir, steps[-1]) if last else None
    )


def whole_checkpoint(work_dir: Path, least: int) -> str | None:
    """What is wrong with what ``last_checkpoint`` names; it must not be older than ``least``."""
    name = (work_dir / 'last_checkpoint').read_text()
    if not name or not Path(name).is_file():
        return f'last_checkpoint names {name!r}, which is not there'
    step = torch.load(name, weights_only=False)['meta']['iter']  # our own file
    return None if step >= least else f'{name} is of iteration {step}, {least} had been saved'


def goes_on(scenes: Path, work_dir: Path, step: int) -> str | None:
    """What goes wrong when the training is resumed to its end."""
    command = small.arguments(
        scenes, work_dir, f'train_cfg.max_iters={step + 2}', *small.NO_VALIDATION
    )
    status, child = run_tool('train.py', *command, '--resume', folder=work_dir)
    if status or not (work_dir / f'iter_{step + 2}.pth').exists():
        return f'--resume ended with status {status}: {child.last_line()}'
    kept = sorted(path.name for path in work_dir.glob('*.pth'))
    return None if len(kept) == 1 else f'more than one checkpoint was kept: {kept}'


ROW = Row(
    'kill-while-saving',
    'SIGKILL while a checkpoint is saved: `last_checkpoint` names a whole one, of the save before '
    'at least, and `--resume` goes on from it',
    50,
    run,
    {'atomic-saving': without_atomic_saving},
)
