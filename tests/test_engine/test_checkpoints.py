"""Checkpoints of all sorts: what is data is read, what is not is named, nothing is executed."""

import functools
import http.server
import os
import struct
import threading
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from mmbanet.engine.checkpoints import check_weights, read_checkpoint, use_safe_loaders


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'iter_3.pth'


def content() -> dict:
    """What MMEngine's runner saves, in small."""
    buffer = HistoryBuffer()
    for value in (1.0, 2.0):
        buffer.update(value)
    return dict(
        meta=dict(iter=3, epoch=0, seed=np.random.default_rng(0).integers(9)),
        state_dict=dict(weight=torch.ones(2, 3), steps=torch.tensor(3)),
        message_hub=dict(log_scalars=dict(loss=buffer), runtime_info=dict(best=np.float64(2))),
        optimizer=dict(state={}, param_groups=[]),
        param_schedulers=[],
    )


def test_what_mmengine_saves_is_read(path):
    torch.save(content(), path)
    loaded = read_checkpoint(path, resumable=True)
    buffer = loaded['message_hub']['log_scalars']['loss']
    assert type(buffer) is HistoryBuffer
    assert (buffer.mean(), buffer.current(), buffer.max_length) == (1.5, 2.0, 1000000)
    assert loaded['meta'] == content()['meta']
    assert torch.equal(loaded['state_dict']['weight'], torch.ones(2, 3))


def test_weights_alone_are_read(path):
    torch.save(dict(weight=torch.ones(1)), path)
    assert read_checkpoint(path)['weight'] == 1
    torch.save(dict(weight=torch.ones(1)), path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(str(path))['weight'] == 1


def test_the_text_of_a_config_does_not_reach_mmengine(path):
    torch.save(dict(content(), meta=dict(iter=1, epoch=0, config='import os', cfg='a = 1')), path)
    assert read_checkpoint(path)['meta'] == dict(iter=1, epoch=0, cfg='a = 1')


class Payload:
    """Writes a file where it is unpickled."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_is_named_and_not_executed(path, tmp_path, zipped):
    target = tmp_path / 'executed'
    torch.save(dict(content(), extra=Payload(target)), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'iter_3\.pth holds more than data \(posix\.mkdir\)'):
        read_checkpoint(path)
    assert not target.exists()


def test_a_history_cannot_add_methods(path):
    methods = dict(HistoryBuffer._statistics_methods)
    buffer = HistoryBuffer()
    buffer._statistics_methods = dict(mean=HistoryBuffer.max)  # what it says of itself
    torch.save(dict(content(), message_hub=dict(log_scalars=dict(loss=buffer))), path)
    read_checkpoint(path)
    assert HistoryBuffer._statistics_methods == methods


def changed(path, **parts):
    torch.save(dict(content(), **parts), path)


def whole(path) -> bytes:
    changed(path)
    return path.read_bytes()


def flipped(path) -> bytes:
    data = bytearray(whole(path))
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith('data/0'))
        offset = archive.getinfo(name).header_offset
    data[offset + 30 + sum(struct.unpack('<HH', data[offset + 26 : offset + 30]))] ^= 1
    return bytes(data)


def script(path):
    torch.jit.script(nn.Linear(2, 2)).save(str(path))


def array(path):
    with path.open('wb') as file:
        np.savez_compressed(file, weight=np.zeros(3))


def without(*names):
    return lambda path: torch.save(
        {key: value for key, value in content().items() if key not in names}, path
    )


NAN = dict(weight=torch.tensor([1, float('nan')]))
BAD = {
    'missing': (lambda path: None, 'checkpoint not found: .*iter_3'),
    'folder': (lambda path: path.mkdir(), 'is no file'),
    'empty': (lambda path: path.touch(), 'is empty'),
    'zeros': (lambda path: path.write_bytes(bytes(9999)), 'is only zeros'),
    'zeros at the end': (
        lambda path: path.write_bytes(whole(path)[:2000].ljust(5000, b'\0')),
        'is cut off or damaged',
    ),
    'half': (lambda path: path.write_bytes(whole(path)[:1500]), 'is cut off or damaged'),
    'without its end': (lambda path: path.write_bytes(whole(path)[:-9]), 'is cut off or damaged'),
    'a flipped bit': (lambda path: path.write_bytes(flipped(path)), 'is damaged in .*data/0'),
    'noise': (
        lambda path: path.write_bytes(np.random.default_rng(0).bytes(9999)),
        'is damaged, or no checkpoint',
    ),
    'text': (lambda path: path.write_text('not a checkpoint\n'), 'is damaged, or no checkpoint'),
    'page': (lambda path: path.write_text('\n<!DOCTYPE html><html>'), 'is a web page'),
    'pointer': (
        lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\n'),
        'is a Git LFS pointer',
    ),
    'script': (script, 'is damaged, or no checkpoint|is a compressed'),
    'arrays': (array, 'is a compressed archive'),
    'gzip': (lambda path: path.write_bytes(b'\x1f\x8b\x08'), 'is a gzip archive'),
    'a list': (lambda path: torch.save([torch.ones(1)], path), 'holds a list, expected a dict'),
    'a tensor': (lambda path: torch.save(torch.ones(1), path), 'holds a Tensor, expected'),
    'no weights': (without('state_dict'), r'holds no weights \(state_dict\), but meta, message'),
    'nothing': (lambda path: torch.save({}, path), r'holds no weights \(state_dict\), but nothing'),
    'weights of another kind': (
        lambda path: changed(path, state_dict=[1]),
        'holds no weights',
    ),
    'NaN': (lambda path: changed(path, state_dict=NAN), 'weight is not finite'),
    'no optimizer': (
        without('optimizer', 'param_schedulers'),
        'holds no optimizer and no param_schedulers, a training cannot go on',
    ),
    'no iteration': (lambda path: changed(path, meta={}), 'holds no meta.iter and no meta.epoch'),
}


@pytest.mark.parametrize('kind', BAD)
def test_what_is_wrong_is_said_in_one_line(path, kind):
    make, message = BAD[kind]
    make(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        read_checkpoint(path, resumable=True)
    assert str(path) in str(raised.value)
    assert '\n' not in str(raised.value)


def test_weights_of_another_model():
    model = nn.Linear(3, 2)
    check_weights(dict(state_dict=model.state_dict()), model, 'a.pth')
    check_weights({f'module.{k}': v for k, v in model.state_dict().items()}, model, 'a.pth')
    found = dict(weight=torch.ones(2, 4), other=torch.ones(1))
    message = r'a\.pth is a checkpoint of another model: bias is missing; other is .* and 1 more'
    with pytest.raises(ValueError, match=message):
        check_weights(dict(state_dict=found), model, 'a.pth')


@pytest.fixture
def safe_loaders(monkeypatch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    use_safe_loaders()


@pytest.mark.usefixtures('safe_loaders')
def test_mmengine_reads_files_safely(path, tmp_path):
    model = nn.Linear(3, 2)
    torch.save(dict(model.state_dict(), payload=Payload(tmp_path / 'executed')), path)
    with pytest.raises(ValueError, match='holds more than data'):
        load_checkpoint(model, str(path))
    assert not (tmp_path / 'executed').exists()
    torch.save(dict(weight=torch.zeros(2, 3), bias=torch.zeros(2)), path)
    load_checkpoint(model, str(path))
    assert not model.weight.any()


@pytest.mark.usefixtures('safe_loaders')
def test_mmengine_reads_urls_safely(tmp_path, monkeypatch):
    (tmp_path / 'site').mkdir()
    torch.save(dict(weight=Payload(tmp_path / 'executed')), tmp_path / 'site' / 'bad.pth')
    torch.save(dict(weight=torch.ones(1)), tmp_path / 'site' / 'good.pth')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / 'site')
    )
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        for _ in range(2):
            assert CheckpointLoader.load_checkpoint(f'{address}/good.pth')['weight'] == 1
        with pytest.raises(ValueError, match=r'bad\.pth holds more than data'):
            CheckpointLoader.load_checkpoint(f'{address}/bad.pth')
        server.shutdown()
    assert not (tmp_path / 'executed').exists()
