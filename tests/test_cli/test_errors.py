"""Which exceptions end a tool with one line and which with a traceback."""

import errno
import multiprocessing.pool
import os
import signal
import subprocess
import sys
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.utils.data import DataLoader

from mmbanet.cli.errors import expected_message
from mmbanet.engine.launch import replace_data_root
from mmbanet.engine.workers import end_with_lost_batches
from mmbanet.models.fusion import OcclusionAwareFusionHead


def message_of(function, folder) -> str | None:
    with pytest.raises(Exception) as raised:  # noqa: PT011
        function()
    return expected_message(raised.value, folder)


def build(**settings):
    return MODELS.build(dict(type='mmbanet.OcclusionAwareFusionHead', **settings))


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        (lambda: replace_data_root(Config({}), 'x'), '--data-root replaces data_root of'),
        (lambda: build(num_things=3), "got an unexpected keyword argument 'num_things'"),
        (lambda: MODELS.build(dict(type='mmbanet.Banet')), 'mmbanet.Banet is not in the '),
        (lambda: Config({}).model, "object has no attribute 'model'"),
        (lambda: DataLoader([1], persistent_workers=True), 'persistent_workers option needs num_w'),
        (Path('/nowhere/there').read_bytes, "No such file or directory: '/nowhere/there'"),
    ],
    ids=range(6),
)
def test_mistakes(function, message, tmp_path):
    text = message_of(function, tmp_path)
    assert message in text
    assert '\n' not in text


@pytest.mark.parametrize(
    'function',
    [
        lambda: {}['key'],
        lambda: torch.zeros(2) + torch.zeros(3),
        lambda: int('three'),
        lambda: torch.zeros(2).reshape(3),
        lambda: OcclusionAwareFusionHead.predict(),
        lambda: subprocess.run([sys.executable, '-c', '1/0'], check=True, capture_output=True),
    ],
    ids=range(6),
)
def test_defects_keep_their_traceback(function, tmp_path):
    assert message_of(function, tmp_path) is None


class Broken(torch.utils.data.Dataset):
    """Fails in a worker: by a mistake of the user's, or by a defect."""

    def __init__(self, function) -> None:
        self.function = function

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return self.function()


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        (lambda: replace_data_root(Config({}), 'x'), '--data-root replaces data_root of'),
        (Path('/nowhere/there').read_bytes, '[Errno 2] No such file or directory'),
        (lambda: {}['key'], None),
        (lambda: int('three'), None),
    ],
    ids=range(4),
)
def test_errors_of_a_data_loaders_worker(function, message, tmp_path):
    loader = DataLoader(Broken(function), num_workers=1, multiprocessing_context='fork')
    text = message_of(lambda: next(iter(loader)), tmp_path)
    assert text is None if message is None else text.startswith(message)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Unsent:
    """A sample that cannot be sent, as a tensor where /dev/shm is full."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple:
        raise RuntimeError(self.text)


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        (killed, "a data loader's worker was ended from outside"),
        (lambda: Unsent('unable to allocate: No space left on device (28)'), 'shared memory (/dev'),
        (lambda: Unsent('cannot be pickled'), "a data loader's worker was ended"),
        (lambda: torch.empty(1 << 48), 'out of memory: take a smaller batch'),
    ],
    ids=range(4),
)
def test_workers_that_end_do_not_keep_the_run_waiting(function, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Queue, '_on_queue_feeder_error', staticmethod(lambda *_: None))
    end_with_lost_batches()
    loader = DataLoader(
        Broken(function), num_workers=1, collate_fn=list, multiprocessing_context='fork', timeout=60
    )
    assert message_of(lambda: next(iter(loader)), tmp_path).startswith(message)


def raising(error: Exception):
    def function():
        raise error

    return function


@pytest.mark.parametrize(
    ('function', 'message'),
    [
        (lambda: torch.empty(1 << 48), 'out of memory'),
        (lambda: bytes(1 << 60), 'out of memory'),
        (raising(torch.OutOfMemoryError('CUDA out of memory. Tried to')), 'out of memory'),
        (raising(OSError(errno.EMFILE, os.strerror(errno.EMFILE))), 'too many open files'),
        (raising(RuntimeError("can't start new thread")), 'no more threads'),
    ],
    ids=range(5),
)
def test_shortages_say_what_helps(function, message, tmp_path):
    assert message_of(function, tmp_path).startswith(f'{message}: ')


def test_errors_of_a_thread(tmp_path):
    def in_a_thread():
        with multiprocessing.pool.ThreadPool(1) as pool:
            pool.apply(replace_data_root, (Config({}), 'x'))

    assert '--data-root' in message_of(in_a_thread, tmp_path)


def test_modules_beside_the_tool_are_its_own(tmp_path):
    path = tmp_path / 'beside.py'
    path.write_text('def fail():\n    raise ValueError("three\\nlines\\nlong")')
    scope = {}
    exec(compile(path.read_text(), str(path), 'exec'), scope)
    assert message_of(scope['fail'], tmp_path) == 'three lines long'
    assert message_of(scope['fail'], tmp_path / 'elsewhere') is None
