"""Writes a data set of scenes: parallel, the same for any number of workers, all or nothing."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .scene import draw_scene
from .writer import Entries, annotation_files, write_scene

#: Part of the record of a data set; raise it when the same seed gives other files.
GENERATOR_VERSION = 2
MIN_SIZE = 64
RECORD = 'scenes.json'


def generate_scenes(
    root: str | Path,
    *,
    train: int = 1000,
    val: int = 200,
    size: int = 128,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Generates a data set in COCO's layout, unless it is already there.

    ``root`` then holds, for each ``split`` of ``train`` and ``val``, the panoptic annotations in
    ``annotations/panoptic_{split}.json`` and ``annotations/panoptic_{split}/*.png``, the instances
    in ``annotations/instances_{split}.json`` and the images in ``{split}/*.jpg``, and the record of
    how all was made in ``scenes.json``.
    Everything is written to a folder beside ``root`` that is renamed at the end, so that an
    interrupted run leaves nothing that looks complete.

    Args:
        root: Folder of the data set.
        train: Images of the training split.
        val: Images of the validation split.
        size: Side of the images in pixels, at least 64.
        seed: Non-negative; an image depends on it, its split and its number alone.
        workers: Processes; all cores if not given.
        overwrite: Replace other scenes in ``root``; never anything but scenes.

    Returns:
        ``root``.

    Raises:
        ValueError: A number is out of range.
        FileExistsError: ``root`` holds something else, or other scenes without ``overwrite``.
        OSError: ``root`` cannot be written.
    """
    for name, value, least in (
        ('train', train, 0),
        ('val', val, 0),
        ('size', size, MIN_SIZE),
        ('seed', seed, 0),
        ('workers', workers or 1, 1),
    ):
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')
    record = dict(version=GENERATOR_VERSION, train=train, val=val, size=size, seed=seed)
    # A link to a folder elsewhere stays, and what it points to is written.
    target = Path(root).resolve()
    found = _read_record(target, record)
    if found == record and not overwrite:
        return Path(root)
    if found is not None and not overwrite:
        raise FileExistsError(
            f'{root} holds other scenes, made with {found}, asked for {record}: choose another '
            'folder or overwrite'
        )

    with _partial_folder(target) as folder:
        with _workers(workers or os.cpu_count()) as pool:
            for number, (split, count) in enumerate((('train', train), ('val', val))):
                _write_split(pool, folder, split, [seed, number], count, size)
        (folder / RECORD).write_text(json.dumps(record))
        if found is not None:
            shutil.rmtree(target)
        folder.rename(target)
    return Path(root)


def _read_record(root: Path, like: dict) -> dict | None:
    """How the scenes in ``root`` were made, with the keys of ``like``; None if nothing is there.

    Raises:
        FileExistsError: ``root`` holds something else, which is not ours to replace.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        found = json.loads((root / RECORD).read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.keys() != like.keys():
        raise FileExistsError(f'{root} exists and holds no generated scenes: choose another folder')
    return found


@contextmanager
def _partial_folder(root: Path) -> Iterator[Path]:
    """A new folder beside ``root``, which is gone at the end unless it was renamed."""
    # The process id keeps two runs for the same data set apart; the later to end fails to rename.
    folder = root.with_name(f'.{root.name}.partial-{os.getpid()}')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that stops at once, without its own traces, when interrupted."""
    # OpenCV's threads do not survive a fork, and would compete for the cores: without them in this
    # process, its children have none either.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    pool = ProcessPoolExecutor(count, initializer=_ignore_interrupts)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole process group; only the parent is to answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_split(
    pool: ProcessPoolExecutor, root: Path, split: str, seed: list[int], count: int, size: int
) -> None:
    """Writes the images, maps and annotation files of one split."""
    annotations = root / 'annotations'
    for folder in (root / split, annotations / f'panoptic_{split}'):
        folder.mkdir(parents=True)
    write = partial(_write_one, root=root, split=split, seed=seed, size=size)
    entries = list(
        tqdm(pool.map(write, range(count), chunksize=8), desc=split, total=count, unit='scene')
    )
    for name, content in annotation_files(split, seed[0], entries).items():
        (annotations / name).write_text(json.dumps(content))


def _write_one(index: int, root: Path, split: str, seed: list[int], size: int) -> Entries:
    """Draws and writes one scene; a generator of its own makes it independent of the others."""
    rng = np.random.default_rng([*seed, index])
    return write_scene(draw_scene(rng, size), index + 1, root, split)
