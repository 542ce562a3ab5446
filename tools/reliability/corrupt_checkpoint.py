"""Checkpoints that are no checkpoints: a training goes on from an older one, or stops clearly."""

from __future__ import annotations

import os
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from mmengine.config import Config

from . import small
from .children import one_line, run_tool
from .row import Outcome, Row, chosen, count


@contextmanager
def without_fallback() -> Iterator[None]:
    """The newest is taken as MMEngine takes it."""
    from mmbanet.engine import work_folder

    def resume(cfg: Config, _checkpoint: str | None = None) -> None:
        cfg.resume = True

    # tools/train.py imports it when it runs.
    with patch.object(work_folder, 'resume', resume):
        yield


@contextmanager
def without_comparison() -> Iterator[None]:
    """Weights of another model are taken as far as they fit."""
    from mmbanet.engine import work_folder

    with patch.object(work_folder, 'check_weights', lambda *_: None):
        yield


def _written(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _saved(change: Callable[[dict], dict]) -> Callable[[Path], object]:
    return lambda path: torch.save(change(torch.load(path, weights_only=False)), path)


def _weights(change: Callable[[dict], dict]) -> Callable[[Path], object]:
    return _saved(lambda content: dict(content, state_dict=change(content['state_dict'])))


def _flip(path: Path) -> None:
    """One bit of the largest tensor."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        part = max(archive.infolist(), key=lambda part: part.file_size)
    data[part.header_offset + part.file_size // 2] ^= 1
    path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _nan(weights: dict) -> dict:
    name = next(name for name, weight in weights.items() if weight.is_floating_point())
    return dict(weights, **{name: weights[name] * float('nan')})


def _record(change: Callable[[str], str]) -> Callable[[Path], object]:
    """Of ``last_checkpoint``."""
    record = 'last_checkpoint'
    return lambda path: (path.parent / record).write_text(change(str(path)))


class Payload:
    """What unpickling would call."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ('executed',)


# What happens to the newest one.
KINDS: dict[str, Callable[[Path], object]] = {
    'half of it': _written(lambda data: data[: len(data) // 2]),
    'without its last bytes': _written(lambda data: data[:-30]),
    'zeros': _written(lambda data: bytes(len(data))),
    'zeros from its middle on': _written(
        lambda data: data[: len(data) // 2].ljust(len(data), b'\0')
    ),
    'empty': _written(lambda data: b''),
    'noise': _written(lambda data: random.Random(0).randbytes(len(data))),
    'a flipped bit': _flip,
    'a web page': _written(lambda data: b'<!DOCTYPE html><html><body>404</body></html>'),
    'a Git LFS pointer': _written(lambda data: b'version https://git-lfs.github.com/spec/v1\n'),
    'a text': _written(lambda data: b'checkpoint\n'),
    'a folder': _folder,
    'deleted': Path.unlink,
    "another model's": _weights(lambda weights: {'backbone.weight': torch.ones(3)}),
    'renamed weights': _weights(lambda weights: {f'model.{n}': w for n, w in weights.items()}),
    'half of the weights': _weights(lambda weights: dict(list(weights.items())[::2])),
    'weights of other shapes': _weights(lambda weights: {n: w[None] for n, w in weights.items()}),
    'weights that are NaN': _weights(_nan),
    'no weights': _saved(lambda content: {'meta': content['meta']}),
    'no optimizer': _saved(lambda content: {n: c for n, c in content.items() if n != 'optimizer'}),
    'a list': _saved(lambda content: [content]),
    'code': _saved(lambda content: dict(content, note=Payload())),
}
# What happens to the file that names it.
RECORDS: dict[str, Callable[[Path], object]] = {
    'an empty last_checkpoint': _record(lambda path: ''),
    'a last_checkpoint that leads elsewhere': _record(lambda path: '/etc/passwd'),
    'no last_checkpoint': lambda path: (path.parent / 'last_checkpoint').unlink(),
}


def run(cases: int | str, folder: Path) -> Outcome:
    """Spoils the newest of two checkpoints, and the only one."""
    scenes = small.make_scenes(folder / 'scenes')
    work_dir = folder / 'intact'
    options = ('train_cfg.max_iters=2', 'default_hooks.checkpoint.max_keep_ckpts=2')
    command = small.arguments(scenes, work_dir, *options, *small.NO_VALIDATION)
    status, child = run_tool('train.py', *command, folder=work_dir)
    if status:
        raise RuntimeError(f'the intact training failed: {child.last_line()}')
    several = {f'{kind}, an older one': partial(goes_on, KINDS[kind]) for kind in KINDS}
    several |= {kind: partial(goes_on, RECORDS[kind], newest=True) for kind in RECORDS}
    alone = {f'{kind}, alone': partial(stops, KINDS[kind]) for kind in KINDS}
    both = [*several.items(), *alone.items()]
    return count(
        (name, partial(case, scenes, work_dir, folder / f'run_{number}'))
        for number, (name, case) in enumerate(chosen(both, cases))
    )


def _spoiled(spoil: Callable[[Path], object], intact: Path, work_dir: Path) -> Path:
    """A copy of the work folder whose newest checkpoint is spoiled: its path."""
    shutil.copytree(intact, work_dir)
    path = work_dir / 'iter_2.pth'
    (work_dir / 'last_checkpoint').write_text(str(path))
    spoil(path)
    return path


def goes_on(
    spoil: Callable[[Path], object],
    scenes: Path,
    intact: Path,
    work_dir: Path,
    newest: bool = False,
) -> str | None:
    """What goes wrong where an older checkpoint is there."""
    path = _spoiled(spoil, intact, work_dir)
    command = small.arguments(scenes, work_dir, 'train_cfg.max_iters=3', *small.NO_VALIDATION)
    status, child = run_tool('train.py', *command, '--resume', folder=work_dir)
    taken = path if newest else path.with_name('iter_1.pth')
    if status or f'going on from {taken}' not in child.text():
        return f'does not go on from {taken.name}: {child.last_line()}'
    if not newest and str(path) not in child.text().partition('going on from')[0]:
        return f'does not say that {path.name} is bad'
    return None if (work_dir / 'iter_3.pth').exists() else 'did not come to its end'


def stops(
    spoil: Callable[[Path], object], scenes: Path, intact: Path, work_dir: Path
) -> str | None:
    """What goes wrong where there is no other checkpoint."""
    path = _spoiled(spoil, intact, work_dir)
    path.with_name('iter_1.pth').unlink()
    command = small.arguments(scenes, work_dir, 'train_cfg.max_iters=3', *small.NO_VALIDATION)
    status, child = run_tool('train.py', *command, '--resume', folder=work_dir)
    named = 'last_checkpoint' if spoil is Path.unlink else str(path)
    return one_line(status, child, 'train.py', named, 'delete the folder to begin again')


ROW = Row(
    'corrupt-checkpoint',
    '`--resume` with a newest checkpoint that is none: goes on from the newest good one and says '
    'so; without one, stops with one line that names the file and what to do',
    2 * len(KINDS) + len(RECORDS),
    run,
    {'fallback': without_fallback, 'comparison-of-weights': without_comparison},
)
