"""The folder of a training: one run at a time, and the checkpoint that a run goes on from."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from .checkpoints import check_weights, read_checkpoint

LOCK = '.lock'


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Keeps other runs out of a folder, which is made; a lock ends with its process.

    Of several ranks, the first one keeps it.

    Raises:
        OSError: The folder cannot be written.
        ValueError: Another run has it; names its process and machine.
    """
    if not _is_first_rank():
        yield
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Not by flock: workers, which can outlive a process that was killed, would inherit it.
    with (folder / LOCK).open('a+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f'{folder} is in use by {file.read().strip() or "another run"}: wait for it, or '
                'choose another folder'
            ) from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield
        file.truncate(0)


def check_unused(cfg: Config) -> None:
    """Raises a ValueError where a new training would mix its checkpoints with another's."""
    found = _checkpoints(Path(cfg.work_dir))
    if found:
        raise ValueError(
            f'{cfg.work_dir} holds checkpoints of a training ({found[0].name}): --resume goes on '
            'with it, another --work-dir begins a new one'
        )


def resume(cfg: Config, checkpoint: str | None = None) -> None:
    """Makes MMEngine's runner go on from a checkpoint that it can go on from, with its seed.

    Args:
        cfg: Of the runner, changed in place.
        checkpoint: File; None: the newest good one in the work folder. The first start has none.

    Raises:
        FileNotFoundError, ValueError: The checkpoint, or each of those in the folder, cannot be
            gone on from; names the first and says what to do.
    """
    if checkpoint is not None:
        path, content = checkpoint, _read(checkpoint, cfg)
    else:
        path, content = _newest_good(cfg)
        if path is None:
            return
    for key, done in (('max_iters', 'iter'), ('max_epochs', 'epoch')):
        limit = (cfg.get('train_cfg') or {}).get(key)
        if limit is not None and content['meta'].get(done, 0) >= limit:
            _say(f'{path}: nothing is left to train; train_cfg.{key}={limit} may be raised')
    cfg.resume, cfg.load_from = True, str(path)
    # The order of the data is drawn before MMEngine reads the seed of a checkpoint.
    seed = content['meta'].get('seed')
    if seed is not None and cfg.get('randomness', {}).get('seed') is None:
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)


def _newest_good(cfg: Config) -> tuple[Path | None, dict]:
    """The newest checkpoint of the work folder that can be gone on from, and what it holds."""
    folder, errors = Path(cfg.work_dir), []
    for path in _candidates(folder):
        try:
            content = _read(path, cfg)
        except (OSError, ValueError) as error:
            _say(f'left out: {error}')
            errors.append(error)
        else:
            for other in filter(Path.is_dir, _checkpoints(folder)):
                _put_aside(other)
            _say(f'going on from {path}')
            return path, content
    if not errors and not (folder / 'last_checkpoint').exists():
        _say(f'{folder} holds no checkpoint yet: beginning with the first iteration')
        return None, {}
    why = f': {errors[0]}' if errors else ', although its last_checkpoint names one'
    raise ValueError(
        f'{folder} holds no checkpoint to go on from{why}; delete the folder to begin again'
    )


def _candidates(folder: Path) -> Iterator[Path]:
    """What ``last_checkpoint`` names, and the others, the newest first."""
    record = folder / 'last_checkpoint'
    last = None
    if record.is_file():
        text = record.read_text(errors='replace').strip()
        last = Path(text) if text else None
        if last is not None and last.parent.resolve() != folder.resolve():
            # A folder that was moved or copied; or a file that leads somewhere else.
            _say(f'{record} names {text}, which is not in this folder')
            last = None
        elif last is None or not last.exists():
            _say(f'{record} names {text or "nothing"}, which is not there')
            last = None
    if last is not None:
        yield last
    yield from (path for path in _checkpoints(folder) if last is None or path.name != last.name)


def _checkpoints(folder: Path) -> list[Path]:
    """All that a training has written to go on from, the newest first."""
    found = [
        (int(match[1]), path)
        for path in folder.glob('*.pth')
        if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name))
    ]
    return [path for _, path in sorted(found, reverse=True)]


def _read(path: str | Path, cfg: Config) -> dict:
    content = read_checkpoint(path, resumable=True)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        check_weights(content, MODELS.build(cfg.model), path)
    return content


def _put_aside(folder: Path) -> None:
    """Renames a folder that has the name of a checkpoint, which is to be written there."""
    if _is_first_rank():
        _say(f'{folder} is a folder: renamed to {folder.rename(f"{folder}.folder").name}')


def _say(text: str) -> None:
    if _is_first_rank():
        print(text, file=sys.stderr, flush=True)


def _is_first_rank() -> bool:
    """By what torchrun, Slurm or Open MPI says, since the group is joined later."""
    ranks = map(os.environ.get, ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'))
    return next(filter(None, ranks), '0') == '0'
