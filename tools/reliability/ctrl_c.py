"""Ctrl-C at several moments of several tools: one line, and nothing half-written."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from mmbanet.engine.checkpoints import read_checkpoint

from . import small
from .children import BEGUN, run_tool, start_tool
from .row import Outcome, Row, count, spread

# Status of a program that SIGINT has ended, as a shell reports it.
_STATUS = 130


@contextmanager
def without_answer() -> Iterator[None]:
    """As Python answers Ctrl-C."""
    from mmbanet.cli import tool

    def answer(self, _signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def end(self) -> None:
        raise KeyboardInterrupt

    with patch.multiple(tool._Interruption, answer=answer, end=end):
        yield


def interrupted(
    tool: str,
    command: list[object],
    moment: str | Path,
    folder: Path,
    judge: Callable[[], str | None] = lambda: None,
) -> str | None:
    """What is wrong with the end of a tool that is interrupted.

    Args:
        tool: As of ``run_tool``.
        command: Its arguments.
        moment: When it has printed a text, made a file, or ('') begun to import.
        folder: Its current folder.
        judge: Says what is wrong with what it has left behind.
    """
    child = start_tool(tool, *command, folder=folder)
    if isinstance(moment, Path):
        end = time.monotonic() + 120
        while not moment.exists() and time.monotonic() < end:
            time.sleep(0.002)
    else:
        child.wait_for(moment or BEGUN)
        time.sleep(0 if moment else 0.2)
    child.signal(signal.SIGINT)
    status = child.wait(60)
    name = tool if tool.endswith('.py') else f'mmbanet {tool}'
    if status != _STATUS:
        return f'ended with status {status}: {child.last_line()}'
    if 'Traceback' in child.text():
        return f'a traceback: {child.last_line()}'
    # In a file, a progress bar may stand before it.
    if not re.match(rf'(.*\d/\d.*\])?{name}: interrupted; ', child.last_line()):
        return f'the last line is not its own: {child.last_line()}'
    return judge()


def run(cases: int, folder: Path) -> Outcome:
    """Each moment of each tool once."""
    scenes = small.make_scenes(folder / 'scenes', val=20)
    trained = folder / 'trained'
    command = small.arguments(scenes, trained, 'train_cfg.max_iters=1', *small.NO_VALIDATION)
    status, child = run_tool('train.py', *command, folder=trained)
    if status:
        raise RuntimeError(f'the training failed: {child.last_line()}')
    checkpoint = trained / 'iter_1.pth'

    def training(moment: str, *options: str) -> str | None:
        work_dir = folder / f'training_{time.monotonic_ns()}'
        command = small.arguments(scenes, work_dir, 'train_cfg.max_iters=1000', *options)
        return interrupted('train.py', command, moment, work_dir, partial(whole, work_dir))

    config, *rest = small.arguments(scenes, folder / 'tested')
    predict = [small.CONFIG, checkpoint, scenes / 'val', '--out', folder / 'predicted']
    draw = [small.CONFIG, checkpoint, scenes / 'val', '--out', folder / 'drawn']
    make = ['--out', folder / 'more', '--train', 3000, '--val', 2, '--size', 64]
    short = f'train_cfg.val_interval={2}'
    attempts = [
        ('train.py, saving', partial(training, 'Saving checkpoint at 2')),
        ('train.py, iterating', partial(training, 'Iter(train) [   3/')),
        ('train.py, at its start', partial(training, '')),
        ('train.py, evaluating', partial(training, 'Iter(val)', short)),
        (
            'train.py, workers',
            partial(training, 'Iter(train) [   2/', 'train_dataloader.num_workers=2'),
        ),
        (
            'test.py, at its start',
            partial(interrupted, 'test.py', [config, checkpoint, *rest], '', folder / 'a'),
        ),
        (
            'test.py, evaluating',
            partial(
                interrupted, 'test.py', [config, checkpoint, *rest], 'Iter(test)', folder / 'b'
            ),
        ),
        (
            'predict',
            partial(
                interrupted, 'predict', predict, folder / 'predicted' / 'segments', folder / 'c'
            ),
        ),
        ('draw_occlusion.py', partial(interrupted, 'draw_occlusion.py', draw, '->', folder / 'd')),
        (
            'make-scenes',
            partial(
                interrupted,
                'make-scenes',
                make,
                'scene/s',
                folder / 'e',
                lambda: 'a part was kept' if list(folder.glob('*more*')) else None,
            ),
        ),
        (
            'demo.py',
            partial(interrupted, 'demo.py', demo(folder), 'iteration', folder / 'f'),
        ),
    ]
    return count(spread(attempts, cases))


def demo(folder: Path) -> list[object]:
    """Arguments of the demo on scenes of its own."""
    command = small.arguments(folder / 'demo_scenes', folder / 'demo', 'train_cfg.max_iters=200')
    position = command.index('--cfg-options')
    return [*command[:position], '--images', 6, 20, *command[position:]]


def whole(work_dir: Path) -> str | None:
    """What is wrong with a checkpoint of an interrupted training."""
    for path in work_dir.glob('*.pth'):
        read_checkpoint(path, resumable=True)
    record = work_dir / 'last_checkpoint'
    there = not record.exists() or Path(record.read_text()).exists()
    return None if there else 'last_checkpoint names a deleted file'


ROW = Row(
    'ctrl-c',
    'Ctrl-C in train (starting, iterating, saving, evaluating, with workers), test, predict, draw, '
    'make-scenes, demo: one line, status 130, nothing half-written',
    11,
    run,
    {'answer-to-ctrl-c': without_answer},
)
