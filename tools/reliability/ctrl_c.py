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
from .children import BEGUN, start_tool
from .row import Outcome, Row, chosen, count

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


def run(cases: int | str, folder: Path) -> Outcome:
    """Each moment of each tool once."""
    scenes = small.make_scenes(folder / 'scenes', val=20)

    def training(moment: str, *options: str) -> str | None:
        work_dir = folder / f'training_{time.monotonic_ns()}'
        command = small.arguments(scenes, work_dir, 'train_cfg.max_iters=1000', *options)
        return interrupted('train.py', command, moment, work_dir, partial(whole, work_dir))

    def trained(tool: str, moment: str | Path, *more: object) -> str | None:
        command = [small.CONFIG, small.trained(scenes, folder / 'trained'), *more]
        return interrupted(tool, command, moment, folder / f'run_{time.monotonic_ns()}')

    def making(moment: str) -> str | None:
        command = ['--out', folder / 'more', '--train', 3000, '--val', 2, '--size', 64]
        problem = interrupted('make-scenes', command, moment, folder / 'making')
        return problem or ('a part was kept' if list(folder.glob('*more*')) else None)

    predicted, drawn = folder / 'predicted', folder / 'drawn'
    rest = small.arguments(scenes, folder / 'tested')[1:]
    attempts = [
        ('train.py, saving', partial(training, 'Saving checkpoint at 2')),
        ('train.py, iterating', partial(training, 'Iter(train) [   3/')),
        ('train.py, at its start', partial(training, '')),
        ('train.py, evaluating', partial(training, 'Iter(val)', 'train_cfg.val_interval=2')),
        (
            'train.py, workers',
            partial(training, 'Iter(train) [   2/', 'train_dataloader.num_workers=2'),
        ),
        ('test.py, at its start', partial(trained, 'test.py', '', *rest)),
        ('test.py, evaluating', partial(trained, 'test.py', 'Iter(test)', *rest)),
        (
            'predict',
            partial(trained, 'predict', predicted / 'segments', scenes / 'val', '--out', predicted),
        ),
        (
            'draw_occlusion.py',
            partial(trained, 'draw_occlusion.py', '->', scenes / 'val', '--out', drawn),
        ),
        ('make-scenes', partial(making, 'scene/s')),
        (
            'demo.py',
            partial(interrupted, 'demo.py', demo(folder), 'iteration', folder / 'demo_run'),
        ),
    ]
    return count(chosen(attempts, cases))


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
