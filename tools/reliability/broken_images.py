"""Photographs that cannot be read, in what reads them: named, and left out if that is asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path
from unittest import mock

from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmbanet.datasets import LoadImage, panoptic_dataset

from .children import one_line, run_tool
from .row import Outcome, Row, chosen, count
from .small import CONFIG, arguments, make_scenes, trained

LATE = 'custom_hooks=[]'  # nobody looks at the files first: a worker is to meet it
SKIP = 'train_dataloader.dataset.pipeline.0.ignore_empty=True'
WORKERS = ('train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True')


def bomb(height: int = 100_000, width: int = 100_000) -> bytes:
    """A PNG of 70 bytes that claims to have so many pixels."""
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = (b'IHDR' + header, b'IDAT' + zlib.compress(b''), b'IEND')
    chunks = [struct.pack('>I', len(p) - 4) + p + struct.pack('>I', zlib.crc32(p)) for p in parts]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def _written(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


BROKEN: dict[str, Callable[[Path], object]] = {
    'empty': _written(lambda content: b''),
    'cut off': _written(lambda content: content[: len(content) // 2]),
    'cut off in its header': _written(lambda content: content[:20]),
    'a text': _written(lambda content: b'no image'),
    'a bomb': _written(lambda content: bomb()),
    'missing': lambda path: path.unlink(),
    'a folder': _replaced(Path.mkdir),
    'a pipe': _replaced(os.mkfifo),
    'a device': _replaced(lambda path: path.symlink_to('/dev/zero')),
}


def _saved(path: Path, **options: object) -> None:
    with Image.open(path) as image:
        image.convert(options.pop('mode', 'RGB')).save(path, **options)


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # by half a turn
    _saved(path, exif=exif)


UNUSUAL: dict[str, Callable[[Path], object]] = {
    'a PNG named JPEG': partial(_saved, format='PNG'),
    'in CMYK': partial(_saved, mode='CMYK'),
    'grey': partial(_saved, mode='L'),
    'turned by EXIF': _turned,
    'with bytes after its end': _written(lambda content: content + bytes(5000)),
}


class Bench:
    """A set of scenes and a checkpoint, and what the tools say of the set with a broken image.

    Args:
        folder: Empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0

    @cached_property
    def scenes(self) -> Path:
        """The intact set."""
        return make_scenes(self.folder / 'scenes')

    @cached_property
    def checkpoint(self) -> Path:
        """Of one iteration."""
        return trained(self.scenes, self.folder / 'model')

    def copy(self, change: Callable[[Path], object], split: str) -> tuple[Path, Path]:
        """A copy of the set with a changed image, and that image."""
        self.number += 1
        scenes = self.folder / f'scenes_{self.number}'
        shutil.copytree(self.scenes, scenes)
        image = sorted((scenes / split).iterdir())[1]
        change(image)
        return scenes, image

    def refusal(self, tool: str, change: Callable[[Path, str], object], *parts: str) -> str | None:
        """What is wrong with how ``train.py`` or ``test.py`` refuses a changed set.

        Args:
            tool: Either.
            change: Of the folder of the set, and of the split that the tool reads.
            parts: What its line must have.
        """
        split = tool.removesuffix('.py').replace('test', 'val')
        scenes, _ = self.copy(lambda image: None, split)
        change(scenes, split)
        work_dir = scenes.with_name(f'{scenes.name}_work')
        config, *options = arguments(scenes, work_dir)
        checkpoint = (self.checkpoint,) if tool == 'test.py' else ()
        status, child = run_tool(tool, config, *checkpoint, *options, folder=work_dir)
        if 'Iter(train)' in child.text():
            return 'an iteration was done'
        return one_line(status, child, tool, *parts)

    def train(self, change: Callable[[Path], object], *options: str, goes_on: bool) -> str | None:
        """Trains; what is wrong with how it stops, or with how it goes on."""
        scenes, image = self.copy(change, 'train')
        work_dir = scenes.with_name(f'{scenes.name}_work')
        given = arguments(scenes, work_dir, *WORKERS, *options)
        status, child = run_tool('train.py', *given, folder=work_dir)
        if not goes_on:
            return one_line(status, child, 'train.py', image.name)
        if status:
            return f'ended with status {status}: {child.last_line()}'
        is_said = any(
            'left out: ' in line and image.name in line for line in child.text().splitlines()
        )
        return None if is_said or SKIP not in options else f'{image.name} is not named'

    def test(self, change: Callable[[Path], object]) -> str | None:
        """Evaluates; what is wrong with how it stops."""
        scenes, image = self.copy(change, 'val')
        work_dir = scenes.with_name(f'{scenes.name}_work')
        config, *options = arguments(scenes, work_dir)
        status, child = run_tool('test.py', config, self.checkpoint, *options, folder=work_dir)
        return one_line(status, child, 'test.py', image.name)

    def predict(self, change: Callable[[Path], object]) -> str | None:
        """Predicts a folder; what is wrong with how it leaves the image out."""
        scenes, image = self.copy(change, 'val')
        out = scenes.with_name(f'{scenes.name}_out')
        given = (
            CONFIG,
            self.checkpoint,
            *sorted({*(scenes / 'val').iterdir(), image}),
            '--out',
            out,
        )
        status, child = run_tool('predict', *given, folder=scenes)
        if 'Traceback' in child.text() or status != 1:
            return f'ended with status {status}: {child.last_line()}'
        return None if image.name in child.text() else f'{image.name} is not named'


def run(cases: int | str, folder: Path) -> Outcome:
    """Each kind, in training (at its start, in a worker, and left out), test and prediction."""
    bench = Bench(folder)
    named = []
    for name, change in BROKEN.items():
        named += [
            (f'{name}: training', partial(bench.train, change, goes_on=False)),
            (f'{name}: worker', partial(bench.train, change, LATE, goes_on=False)),
            (f'{name}: left out', partial(bench.train, change, SKIP, goes_on=True)),
            (f'{name}: worker leaves out', partial(bench.train, change, LATE, SKIP, goes_on=True)),
            (f'{name}: test', partial(bench.test, change)),
            (f'{name}: predict', partial(bench.predict, change)),
        ]
    for name, change in UNUSUAL.items():
        named.append((f'{name}: training', partial(bench.train, change, goes_on=True)))
    return count(chosen(named, cases))


@contextlib.contextmanager
def _mmcvs_own() -> Iterator[None]:
    """Images are loaded by mmcv's transform, and not looked at before."""
    with (
        mock.patch.object(LoadImage, 'transform', LoadImageFromFile.transform),
        mock.patch.object(panoptic_dataset, 'find_unreadable', return_value={}),
    ):
        yield


ROW = Row(
    'broken-images',
    'training: named before the first iteration, or when a worker meets it, then as configured '
    '(stop, or left out); test and predict: named; no worker hangs; unusual images train',
    6 * len(BROKEN) + len(UNUSUAL),
    run,
    {'load-image': _mmcvs_own},
)
