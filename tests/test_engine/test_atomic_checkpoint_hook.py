"""Checkpoints at every moment of saving, of a model of two weights."""

import errno
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mmbanet.engine import AtomicCheckpointHook
from mmbanet.engine.atomic_checkpoint_hook import PARTIAL, AtomicBackend

from ..conftest import TOOLS

sys.path.append(str(TOOLS))
from reliability.children import Child, taken_out
from reliability.kill_while_saving import whole_checkpoint, without_atomic_saving

# What a save asks of the file system.
EVENTS = ('open', 'os.rename', 'os.remove')


class Model(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, inputs=None, data_samples=None, mode='tensor'):
        return dict(loss=(self.weight - 1).square().sum())


def runner_of(folder: Path, **settings) -> Runner:
    model = Model()
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=DataLoader([{}], collate_fn=lambda batch: batch[0]),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(
                dict(type='mmbanet.AtomicCheckpointHook', by_epoch=False, max_keep_ckpts=1),
                **settings,
            ),
            logger=None,
        ),
        default_scope='mmdet',
        experiment_name=str(folder).replace('/', '_'),
    )
    runner.call_hook('before_train')
    return runner


def hook_of(runner: Runner) -> CheckpointHook:
    return next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))


def save(runner: Runner, step: int) -> None:
    runner.train_loop._iter = step - 1
    hook_of(runner)._save_checkpoint(runner)


def killed_at(number: int, folder: Path) -> None:
    """Saves twice; is killed at an event of the second time, before it happens."""
    runner, count = runner_of(folder), 0
    save(runner, 1)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event in EVENTS and str(folder) in str(arguments[0]):
            if count == number:
                print('killed at', event, arguments, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(watch)
    save(runner, 2)


def attempts(folder: Path) -> list[tuple[int, str | None]]:
    """How it ended, killed at each event, and what is wrong with what it left."""
    found = []
    while not found or found[-1][0] < 0:
        work_dir = folder / str(len(found))
        child = Child(killed_at, len(found), work_dir, folder=work_dir)
        found.append((child.wait(), whole_checkpoint(work_dir, 1)))
        assert found[-1][0] in (0, -signal.SIGKILL), child.text()
        assert len(found) < 30
    return found


@pytest.mark.slow
def test_killed_at_each_step_of_a_save(tmp_path):
    found = attempts(tmp_path)
    assert [problem for _, problem in found if problem] == []
    assert len(found) > 6  # partial, folder and name, twice; the old one
    last = tmp_path / str(len(found) - 1)
    assert {path.name for path in last.glob('*.pth')} == {'iter_2.pth'}


@pytest.mark.slow
def test_the_hook_of_mmengine_leaves_nothing(tmp_path):
    with taken_out(without_atomic_saving):
        assert any(problem for _, problem in attempts(tmp_path))


def test_names_are_kept_when_the_disk_is_full(tmp_path):
    backend, path = AtomicBackend(), tmp_path / 'a' / 'model.pth'
    backend.put(b'old', path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match='File too large') as raised:
            backend.put(b'x' * 100, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.errno == errno.EFBIG
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b'old'
    assert [entry.name for entry in path.parent.iterdir()] == ['model.pth']


def test_old_checkpoints_are_deleted_when_the_new_is_there(tmp_path):
    runner = runner_of(tmp_path, max_keep_ckpts=2)
    for step in (1, 2, 3, 3):
        save(runner, step)
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_2.pth', 'iter_3.pth'}
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_3.pth')
    assert not (tmp_path / PARTIAL).exists()
    # Killed before the deletion: a training that goes on deletes it.
    (tmp_path / 'iter_1.pth').touch()
    loaded = torch.load(tmp_path / 'iter_3.pth', weights_only=False)
    assert loaded['message_hub']['runtime_info']['keep_ckpt_ids'] == [2, 3]
    assert loaded['meta']['iter'] == 3


def test_the_best_so_far_is_kept_until_a_better_one_is_there(tmp_path, monkeypatch):
    runner = runner_of(tmp_path, save_best='PQ', rule='greater')
    hook = hook_of(runner)
    save(runner, 1)
    for step, value in ((1, 10.0), (2, 9.0), (3, 11.0), (3, 12.0)):
        runner.train_loop._iter = step
        hook.after_val_epoch(runner, {'PQ': value})
    assert {path.name for path in tmp_path.glob('best*')} == {'best_PQ_iter_3.pth'}
    runner.train_loop._iter = 4

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(AtomicBackend, 'put', fail)
    with suppress(OSError):
        hook.after_val_epoch(runner, {'PQ': 13.0})
    assert (tmp_path / 'best_PQ_iter_3.pth').exists()


def test_the_best_of_another_folder_stays(tmp_path):
    """A training that goes on from there, or from a copy of it, knows its path."""
    runner = runner_of(tmp_path / 'first', save_best='PQ', rule='greater')
    save(runner, 1)
    hook_of(runner).after_val_epoch(runner, {'PQ': 10.0})
    other = runner_of(tmp_path / 'second', save_best='PQ', rule='greater')
    other.message_hub.update_info('best_ckpt', hook_of(runner).best_ckpt_path)
    other.call_hook('before_train')
    for value in (11.0, 12.0):
        other.train_loop._iter += 1
        hook_of(other).after_val_epoch(other, {'PQ': value})
    assert len(list((tmp_path / 'first').glob('best_PQ_*.pth'))) == 1
    assert {path.name for path in (tmp_path / 'second').glob('*.pth')} == {'best_PQ_iter_2.pth'}


def test_other_backends_are_left_alone():
    assert AtomicCheckpointHook().backend_args == dict(backend='mmbanet.atomic')
    assert AtomicCheckpointHook(out_dir='s3://bucket').backend_args is None
    own = dict(backend='local')
    assert AtomicCheckpointHook(backend_args=own).backend_args == own
