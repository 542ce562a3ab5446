"""The folder of a training: its lock, and the checkpoint that is gone on from."""

import os
import shutil
import signal
import sys
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from mmbanet.engine.work_folder import LOCK, check_unused, locked, resume
from mmbanet.registry import MODELS

from ..conftest import TOOLS

sys.path.append(str(TOOLS))
from reliability.children import Child


@MODELS.register_module()
class TwoWeights(BaseModel):
    """As small as a model can be."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, inputs):
        return inputs * self.weight


@pytest.fixture
def cfg(tmp_path):
    return Config(dict(model=dict(type='mmbanet.TwoWeights'), work_dir=str(tmp_path / 'run')))


def save(cfg, step, **parts):
    content = dict(
        meta=dict(iter=step, epoch=0, seed=step),
        state_dict=dict(weight=torch.ones(2)),
        message_hub={},
        optimizer={},
        param_schedulers=[],
    )
    path = f'{cfg.work_dir}/iter_{step}.pth'
    os.makedirs(cfg.work_dir, exist_ok=True)
    torch.save(dict(content, **parts), path)
    with open(f'{cfg.work_dir}/last_checkpoint', 'w') as file:
        file.write(path)
    return path


def test_the_newest_is_gone_on_from_with_its_seed(cfg):
    save(cfg, 9)
    path = save(cfg, 10)
    resume(cfg)
    assert (cfg.resume, cfg.load_from, cfg.randomness) == (True, path, dict(seed=10))


@pytest.mark.parametrize(('limit', 'is_said'), [(2, True), (1, True), (3, False)])
def test_a_finished_training_is_said_to_be_one(cfg, capsys, limit, is_said):
    save(cfg, 2)
    cfg.train_cfg = dict(max_iters=limit)
    resume(cfg)
    said = f'nothing is left to train; train_cfg.max_iters={limit}' in capsys.readouterr().err
    assert said == is_said


def test_a_seed_that_was_chosen_stays(cfg):
    save(cfg, 1)
    cfg.randomness = dict(seed=5, deterministic=True)
    resume(cfg)
    assert cfg.randomness == dict(seed=5, deterministic=True)


def test_what_last_checkpoint_names_comes_first(cfg):
    path = save(cfg, 9)
    save(cfg, 10)
    with open(f'{cfg.work_dir}/last_checkpoint', 'w') as file:
        file.write(path)
    resume(cfg)
    assert cfg.load_from == path


@pytest.mark.parametrize(
    'spoil',
    [
        lambda path: os.truncate(path, 100),
        lambda path: torch.save(dict(state_dict=dict(other=torch.ones(2))), path),
        os.unlink,
        lambda path: (os.unlink(path), os.mkdir(path)),
    ],
)
def test_a_bad_one_is_left_out_and_named(cfg, capsys, spoil):
    older = save(cfg, 9)
    newest = save(cfg, 10)
    spoil(newest)
    resume(cfg)
    assert cfg.load_from == older
    said = capsys.readouterr().err
    assert newest in said
    assert said.endswith(f'going on from {older}\n')
    assert not os.path.isdir(newest)  # where the next one is to be written


def test_weights_of_another_model_are_left_out(cfg, capsys):
    older = save(cfg, 9)
    newest = save(cfg, 10, state_dict=dict(weight=torch.ones(3)))
    resume(cfg)
    assert cfg.load_from == older
    assert f'left out: {newest} is a checkpoint of another model' in capsys.readouterr().err


def test_without_last_checkpoint_the_others_are_found(cfg):
    path = save(cfg, 10)
    save(cfg, 9)
    os.unlink(f'{cfg.work_dir}/last_checkpoint')
    resume(cfg)
    assert cfg.load_from == path


def test_another_folder_is_not_followed(cfg, tmp_path, capsys):
    path = save(cfg, 3)
    shutil.copytree(cfg.work_dir, tmp_path / 'copy')
    cfg.work_dir = str(tmp_path / 'copy')
    resume(cfg)
    assert cfg.load_from == f'{tmp_path}/copy/iter_3.pth'
    assert f'names {path}, which is not in this folder' in capsys.readouterr().err


def test_none_is_good(cfg):
    newest = save(cfg, 3)
    os.truncate(newest, 100)
    with pytest.raises(ValueError, match=r'to go on from: .*iter_3\.pth is cut'):
        resume(cfg)


def test_none_is_there_any_more(cfg):
    os.unlink(save(cfg, 3))
    with pytest.raises(ValueError, match='although its last_checkpoint names one; delete the'):
        resume(cfg)


def test_the_first_start(cfg, capsys):
    resume(cfg)
    assert 'resume' not in cfg
    assert 'beginning with the first iteration' in capsys.readouterr().err


def test_a_named_one_is_taken_or_refused(cfg):
    path = save(cfg, 3)
    resume(cfg, path)
    assert cfg.load_from == path
    os.truncate(path, 100)
    with pytest.raises(ValueError, match=r'iter_3\.pth is cut off'):
        resume(cfg, path)


def test_a_new_training_does_not_mix_with_another(cfg):
    check_unused(cfg)
    save(cfg, 3)
    with pytest.raises(ValueError, match=r'holds checkpoints of a training \(iter_3\.pth\)'):
        check_unused(cfg)


def keep(folder):
    with locked(folder):
        print('locked', flush=True)
        time.sleep(60)


def test_a_second_run_is_refused_until_the_first_has_ended(tmp_path):
    child = Child(keep, tmp_path, folder=tmp_path)
    assert child.wait_for('locked')
    with (
        pytest.raises(ValueError, match=rf'is in use by process {child.pid} on '),
        locked(tmp_path),
    ):
        pass
    child.signal(signal.SIGKILL)
    child.wait()
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert (tmp_path / LOCK).read_text() == ''


def test_other_ranks_leave_the_lock_to_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    with locked(tmp_path / 'run'):
        assert not (tmp_path / 'run').exists()
