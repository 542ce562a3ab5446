"""Full disks, folders that cannot be written, and two runs in one folder."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from mmbanet.engine.checkpoints import read_checkpoint

from . import small
from .children import Child, call_tool, one_line, run_tool, start_tool
from .row import Outcome, Row, chosen, count

# Bytes that a file may have: logs and configs fit, checkpoints do not.
_LIMIT = 1_000_000


@contextmanager
def without_lock() -> Iterator[None]:
    """Any number of runs in a folder."""
    from mmbanet.engine import work_folder

    with patch.object(work_folder.fcntl, 'lockf', lambda *_: None):
        yield


@contextmanager
def without_whole_files() -> Iterator[None]:
    """Files have their final names while they are written."""
    from mmbanet.datasets import panoptic_files
    from mmbanet.engine.atomic_checkpoint_hook import AtomicBackend

    def put(self, obj: bytes, filepath: str) -> None:
        with open(filepath, 'wb', buffering=0) as file:
            while obj:
                obj = obj[file.write(obj) :]

    with (
        patch.object(AtomicBackend, 'put', put),
        patch.object(panoptic_files, 'write_whole', lambda path, write: write(path)),
    ):
        yield


class Bench:
    """Scenes, a checkpoint, and what the tools say where they cannot write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenes = small.make_scenes(folder / 'scenes')

    @property
    def checkpoint(self) -> Path:
        """Of a training that has ended."""
        return small.trained(self.scenes, self.folder / 'trained')

    def command(self, work_dir: Path, *options: str) -> list[str]:
        """Of a training of one iteration."""
        return small.arguments(
            self.scenes, work_dir, 'train_cfg.max_iters=1', *small.NO_VALIDATION, *options
        )

    def train(self, work_dir: Path) -> tuple[int, Child]:
        """Runs it to its end."""
        return run_tool('train.py', *self.command(work_dir), folder=work_dir)

    def test_command(self, *more: object) -> list[object]:
        """Of an evaluation of its checkpoint."""
        config, *rest = small.arguments(self.scenes, self.folder / 'tested')
        return [config, self.checkpoint, *more, *rest]

    def predict_command(self, out: Path) -> list[object]:
        """Of the images of its scenes."""
        return [small.CONFIG, self.checkpoint, self.scenes / 'val', '--out', out]

    def checkpoint_too_large(self) -> str | None:
        """Of a new training."""
        work_dir = self.folder / 'new'
        child = Child(limited, _LIMIT, 'train.py', self.command(work_dir), folder=work_dir)
        problem = one_line(child.wait(), child, 'train.py', 'iter_1.pth')
        return problem or nothing_but(work_dir, '*.pth', '.partial*', 'last_checkpoint')

    def next_checkpoint_too_large(self) -> str | None:
        """Of a training that goes on: what was there is left as it was."""
        work_dir = self.folder / 'goes_on'
        self.train(work_dir)
        command = [*self.command(work_dir, 'train_cfg.max_iters=2'), '--resume']
        child = Child(limited, _LIMIT, 'train.py', command, folder=work_dir)
        problem = one_line(child.wait(), child, 'train.py', 'iter_2.pth')
        read_checkpoint((work_dir / 'last_checkpoint').read_text(), resumable=True)
        return problem or nothing_but(work_dir, 'iter_2.pth', '.partial*')

    def metrics_too_large(self) -> str | None:
        """The disk gets full between evaluation and the writing of its figures."""
        out = self.folder / 'metrics' / 'metrics.json'
        child = Child(
            limited_after_evaluation, self.test_command('--out', out), folder=self.folder / 'tested'
        )
        problem = one_line(child.wait(), child, 'test.py')
        return problem or nothing_but(out.parent, '*')

    def predictions_too_large(self) -> str | None:
        """Of images."""
        out = self.folder / 'predicted'
        child = Child(
            limited, 100, 'predict', self.predict_command(out), folder=self.folder / 'predicting'
        )
        problem = one_line(child.wait(), child, 'mmbanet predict')
        return problem or nothing_but(out, '**/*.png', '**/*.jpg', '**/*.json')

    def scenes_too_large(self) -> str | None:
        """Of generated scenes."""
        out = self.folder / 'more_scenes'
        command = ['--out', out, '--train', 4, '--val', 2, '--size', 64]
        child = Child(limited, 500, 'make-scenes', command, folder=self.folder / 'making')
        problem = one_line(child.wait(), child, 'mmbanet make-scenes')
        return problem or nothing_but(self.folder, 'more_scenes', '.more_scenes*')

    def read_only(self, tool: str, command: list[object]) -> str | None:
        """A folder without the right to write."""
        folder = self.folder / 'read_only'
        folder.mkdir(mode=0o555, exist_ok=True)
        working = self.folder / f'working_{tool}'
        child = Child(as_a_user, tool, command, folder=working)
        name = tool if tool.endswith('.py') else f'mmbanet {tool}'
        status = child.wait()
        if tool == 'test.py':  # an argument that cannot be used, by argparse
            refused = 'not writable' in child.last_line() or 'cannot create' in child.last_line()
            return None if status == 2 and refused else f'{status}: {child.last_line()}'
        return one_line(status, child, name, 'read_only') or nothing_but(folder, '*')

    def two_runs(self) -> str | None:
        """The second one is refused, and goes on when the first was killed."""
        work_dir = self.folder / 'two'
        command = self.command(work_dir, 'train_cfg.max_iters=1000')
        first = start_tool('train.py', *command, folder=work_dir)
        try:
            if not first.wait_for('Iter(train) ['):
                return f'the first failed: {first.last_line()}'
            for more in ([], ['--resume']):
                status, child = run_tool('train.py', *command, *more, folder=self.folder / 'second')
                problem = one_line(status, child, 'train.py', str(work_dir), f'process {first.pid}')
                if problem:
                    return problem
        finally:
            first.kill()
        options = 'train_cfg.max_iters=1', 'default_hooks.checkpoint.interval=1'
        last = int((work_dir / 'last_checkpoint').read_text().rpartition('_')[2].split('.')[0])
        command = self.command(work_dir, *options, f'train_cfg.max_iters={last + 1}')
        status, child = run_tool('train.py', *command, '--resume', folder=work_dir)
        return f'the lock stays: {child.last_line()}' if status else None

    def trained_again(self) -> str | None:
        """A new training in the folder of a finished one."""
        checkpoint = self.checkpoint
        before = checkpoint.read_bytes()
        status, child = self.train(checkpoint.parent)
        if checkpoint.read_bytes() != before:
            return 'the checkpoint of the finished one was replaced'
        return one_line(status, child, 'train.py', str(checkpoint.parent), '--resume')

    def two_predictions(self) -> str | None:
        """Into one folder."""
        out = self.folder / 'twice'
        command = self.predict_command(out)
        holder = Child(hold, out, folder=self.folder / 'holding')
        try:
            holder.wait_for('held')
            status, child = run_tool('predict', *command, folder=self.folder / 'predicting_again')
        finally:
            holder.kill()
        return one_line(status, child, 'mmbanet predict', str(out), f'process {holder.pid}')


def limited(size: int, tool: str, command: list[object]) -> None:
    """Runs a tool that cannot write larger files."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    call_tool(tool, command)


def limited_after_evaluation(command: list[object]) -> None:
    """Runs ``test.py``, which cannot write any more when it has evaluated."""
    from mmbanet import apis

    evaluate = apis.evaluate

    def then_full(*arguments, **options) -> dict:
        metrics = evaluate(*arguments, **options)
        os.ftruncate(1, 0)  # what it has printed counts, too
        os.lseek(1, 0, os.SEEK_SET)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
        return metrics

    apis.evaluate = then_full
    call_tool('test.py', command)


def as_a_user(tool: str, command: list[object]) -> None:
    """Runs a tool without root's right to write everywhere."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)()
        libc.capget(header, sets)
        for word in (0, 1):  # effective and permitted; CAP_DAC_OVERRIDE is 1
            sets[word] &= ~(1 << 1)
        if libc.capset(header, sets):
            raise OSError(ctypes.get_errno(), 'capset')
    call_tool(tool, command)


def hold(folder: Path) -> None:
    """Holds the lock of a folder until it is killed."""
    from mmbanet.engine.work_folder import locked

    with locked(folder):
        print('held', flush=True)
        time.sleep(600)


def nothing_but(folder: Path, *patterns: str) -> str | None:
    """Says what of these patterns is in a folder, and should not be."""
    found = [str(path) for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
    return f'half-written: {found}' if found else None


def run(cases: int | str, folder: Path) -> Outcome:
    """Each case once."""
    bench = Bench(folder)
    closed = folder / 'read_only'
    make = ['--out', closed / 'scenes', '--train', 2, '--val', 2, '--size', 64]
    attempts: list[tuple[str, Callable[[], str | None]]] = [
        ('two trainings', bench.two_runs),
        ('a checkpoint, disk full', bench.checkpoint_too_large),
        ('the next checkpoint, disk full', bench.next_checkpoint_too_large),
        ('predictions, disk full', bench.predictions_too_large),
        ('scenes, disk full', bench.scenes_too_large),
        ('metrics, disk full', bench.metrics_too_large),
        ('training again', bench.trained_again),
        ('two predictions', bench.two_predictions),
        ('train.py, read-only', lambda: bench.read_only('train.py', bench.command(closed))),
        ('predict, read-only', lambda: bench.read_only('predict', bench.predict_command(closed))),
        ('make-scenes, read-only', lambda: bench.read_only('make-scenes', make)),
        (
            'test.py, read-only',
            lambda: bench.read_only('test.py', bench.test_command('--out', closed / 'a.json')),
        ),
    ]
    return count(chosen(attempts, cases))


ROW = Row(
    'full-disk',
    'full disk, read-only folder, two runs in one folder: one line; nothing half-written has a '
    'final name; the second run is refused',
    12,
    run,
    {'lock': without_lock, 'whole-files': without_whole_files},
)
