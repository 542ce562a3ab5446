"""Reading checkpoints: nothing of them is executed, and what is wrong with one is said in a line.

MMEngine's loaders fall back to unpickling, which executes what a file says, and its ``resume``
executes the text of a config in ``meta``. :func:`use_safe_loaders` puts :func:`read_checkpoint` in
the place of its loaders for files and URLs.
"""

from __future__ import annotations

import os.path as osp
import re
import zipfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

# What a training goes on with, beside the weights.
_RESUMED = ('meta', 'message_hub', 'optimizer', 'param_schedulers')
_REMEDY = 'copy or download it anew, or name another checkpoint'
# Beginnings of files that are often taken for checkpoints.
_FOREIGN = {
    b'version https://git-lfs': "a Git LFS pointer, fetch the file itself with 'git lfs pull'",
    b'<': 'a web page or XML, not what was to be downloaded',
    b'\x1f\x8b': 'a gzip archive, unpack it',
    b'\x89HDF': 'an HDF5 file, which PyTorch does not read',
}
_NUMBERS = ('bool', 'uint8', 'int32', 'uint32', 'int64', 'float16', 'float32', 'float64')


def read_checkpoint(
    path: str | PathLike, map_location: Any = 'cpu', *, resumable: bool = False
) -> dict:
    """What a checkpoint holds: weights, and data of a few known types; code is never executed.

    Args:
        path: File.
        map_location: As of ``torch.load``.
        resumable: Whether a training is to go on from it.

    Returns:
        As ``torch.load``. Without ``meta.config``, whose text MMEngine would execute.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no whole checkpoint, or holds more than data, weights that are not finite,
            or too little to go on from; names the file and says what to do.
    """
    path = Path(path).expanduser()
    _check_file(path)
    try:
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        name = re.search(r'GLOBAL (\S+)', str(error))
        if name:
            raise ValueError(
                f'{path} holds more than data ({name[1]}), which could execute anything and is not '
                'loaded: save its state_dict alone, by whom you trust'
            ) from error
        raise ValueError(f'{path} is damaged, or no checkpoint: {_REMEDY}') from error
    except OSError:
        raise
    except Exception as error:  # of PyTorch: whatever a damaged file makes it do
        raise ValueError(f'{path} is damaged, or no checkpoint: {_REMEDY}') from error
    _check_content(path, content, resumable)
    if 'state_dict' in content:
        if isinstance(content.get('meta'), dict):
            content['meta'].pop('config', None)
        if 'message_hub' in content:
            content['message_hub'] = _with_histories(content['message_hub'])
    return content


def use_safe_loaders() -> None:
    """Lets MMEngine read checkpoints by :func:`read_checkpoint`, of ``init_cfg`` as well."""
    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    CheckpointLoader.register_scheme(
        prefixes=('http://', 'https://'), loader=load_from_http, force=True
    )


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """A file, for MMEngine."""
    return read_checkpoint(filename, map_location)


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """A URL, for MMEngine: downloaded once, by one process, to where ``torch.hub`` keeps files."""
    name = osp.basename(urlparse(filename).path)
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    if is_main_process() and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r'-([a-f0-9]{8,})\.', name)
        torch.hub.download_url_to_file(filename, str(path), digest and digest[1])
    barrier()
    return read_checkpoint(path, map_location)


def check_weights(checkpoint: dict, model: nn.Module, path: str | PathLike) -> None:
    """Raises a ValueError unless a checkpoint's weights are those of a model, by name and shape."""
    expected, found = model.state_dict(), checkpoint.get('state_dict', checkpoint)
    found = {name.removeprefix('module.'): weight for name, weight in found.items()}
    differences = [f'{name} is missing' for name in expected if name not in found]
    differences += [f'{name} is none of the model' for name in found if name not in expected]
    differences += [
        f'{name} has the shape {tuple(found[name].shape)}, the model {tuple(weight.shape)}'
        for name, weight in expected.items()
        if name in found and found[name].shape != weight.shape
    ]
    if differences:
        more = f' and {len(differences) - 2} more' if len(differences) > 2 else ''
        raise ValueError(
            f'{path} is a checkpoint of another model: {"; ".join(differences[:2])}{more}'
        )


def load_whole(load: Callable, checkpoint: str, **arguments: Any) -> object:
    """Loads a checkpoint that has to be the model's, of which MMEngine would take what fits.

    Args:
        load: MMEngine's ``Runner.load_checkpoint``, or its ``load_checkpoint`` of a model.
        checkpoint: File or URL.
        arguments: Of ``load``.

    Returns:
        What ``load`` returns.

    Raises:
        ValueError: It is a checkpoint of another model; names weights that differ.
    """
    try:
        return load(checkpoint, strict=True, **arguments)
    except RuntimeError as error:
        if 'do not match exactly' not in str(error):
            raise
        differences = [line for line in str(error).splitlines()[1:] if line.strip()]
        short = [line if len(line) <= 160 else line[:157] + '...' for line in differences[:3]]
        raise ValueError(
            f'{checkpoint} is a checkpoint of another model: {"; ".join(short)}'
        ) from error


def _check_file(path: Path) -> None:
    """Raises an error for what PyTorch would not name, or would read although it is damaged."""
    if not path.exists():
        raise FileNotFoundError(f'checkpoint not found: {path.absolute()}')
    if not path.is_file():
        raise ValueError(f'{path} is no file, expected a checkpoint: name one of those in it')
    with path.open('rb') as file:
        head = file.read(512)
    if not head.strip(b'\0'):
        what = 'only zeros' if head else 'empty'
        raise ValueError(f'{path} is {what}, perhaps after a full disk: {_REMEDY}')
    for beginning, what in _FOREIGN.items():
        if head.lstrip().startswith(beginning):
            raise ValueError(f'{path} is {what}')
    if head.startswith(b'PK'):
        _check_archive(path)


def _check_archive(path: Path) -> None:
    """Compares the checksums, which PyTorch does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise ValueError(f'{path} is a compressed archive, not a checkpoint of PyTorch')
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ValueError(f'{path} is cut off or damaged: {_REMEDY}') from error
    if damaged:
        raise ValueError(f'{path} is damaged in {damaged}: {_REMEDY}')


def _check_content(path: Path, content: Any, resumable: bool) -> None:
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} holds a {type(content).__name__}, expected a dict with state_dict: {_REMEDY}'
        )
    weights = content.get('state_dict', content)
    if not isinstance(weights, dict) or not any(isinstance(w, Tensor) for w in weights.values()):
        parts = ', '.join(list(map(str, content))[:5]) or 'nothing'
        raise ValueError(f'{path} holds no weights (state_dict), but {parts}: {_REMEDY}')
    for name, weight in weights.items():
        if isinstance(weight, Tensor) and not weight.isfinite().all():
            raise ValueError(f'{path}: {name} is not finite: name an older checkpoint')
    if resumable:
        missing = [part for part in _RESUMED if not isinstance(content.get(part), (dict, list))]
        missing += [
            f'meta.{part}'
            for part in ('iter', 'epoch')
            if not missing and not isinstance(content['meta'].get(part), int)
        ]
        if missing:
            raise ValueError(
                f'{path} holds no {" and no ".join(missing)}, a training cannot go on from it: '
                'load_from=CHECKPOINT begins a new one with its weights'
            )


class _History:
    """Stands for MMEngine's ``HistoryBuffer``, to whose class a file could add methods."""

    def __setstate__(self, state: dict) -> None:
        self.values, self.counts = state['_log_history'], state['_count_history']
        self.max_length = int(state['max_length'])

    def buffer(self) -> HistoryBuffer:
        """What it stands for."""
        return HistoryBuffer(self.values, self.counts, self.max_length)


def _name_alone(_owner: Any, name: str) -> str:
    """Stands for ``getattr``, by which files name the methods of a ``HistoryBuffer``."""
    return name


def _no_bytes() -> bytes:
    """Stands for ``bytes``, by which pickle writes the data of an empty array."""
    return b''


def _allowed() -> list:
    """What a checkpoint may hold beside tensors and plain data."""
    core = np.core if np.lib.NumpyVersion(np.__version__) < '2.0.0' else np._core
    arrays = {
        f'numpy.{module}.multiarray.{function.__name__}': function
        for module in ('core', '_core')
        for function in (core.multiarray._reconstruct, core.multiarray.scalar)
    }
    return [
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_name_alone, 'builtins.getattr'),
        (_no_bytes, 'builtins.bytes'),
        *((function, name) for name, function in arrays.items()),
        np.ndarray,
        np.dtype,
        *{type(np.dtype(kind)) for kind in _NUMBERS},
    ]


def _with_histories(part: Any) -> Any:
    """The same with MMEngine's buffers."""
    if isinstance(part, dict):
        return type(part)((key, _with_histories(value)) for key, value in part.items())
    return part.buffer() if isinstance(part, _History) else part
