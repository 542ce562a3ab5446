"""Writes a data set of scenes: parallel, the same for any number of workers, all or nothing."""

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .scene import draw_scene
from .writer import annotation_file, write_scene

#: Part of the record of a data set; raise it when the same seed gives other images.
GENERATOR_VERSION = 1
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
    """Generates a data set in COCO's panoptic layout, unless it is already there.

    ``root`` then holds, for the splits ``train`` and ``val``, ``annotations/panoptic_{split}.json``,
    ``annotations/panoptic_{split}/*.png`` and ``{split}/*.jpg``, and ``scenes.json``, the record of
    how it was made. Everything is written to a folder beside ``root`` that is renamed at the end,
    so that an interrupted run leaves nothing that looks complete.

    Args:
        root: Folder of the data set.
        train: Images of the training split.
        val: Images of the validation split.
        size: Side of the images in pixels, at least 64.
        seed: Non-negative; an image depends on it, its split and its number alone.
        workers: Processes; all cores if not given.
        overwrite: Replace what is in ``root``.

    Returns:
        ``root``.

    Raises:
        ValueError: A number is out of range.
        FileExistsError: ``root`` holds something else and ``overwrite`` is not set.
        OSError: ``root`` cannot be written.
    """
    root = Path(root)
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
    if not overwrite and _is_there(root, record):
        return root

    partial_root = root.with_name(f'{root.name}.partial')
    shutil.rmtree(partial_root, ignore_errors=True)
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        for number, (split, count) in enumerate((('train', train), ('val', val))):
            _write_split(pool, partial_root, split, [seed, number], count, size)
    (partial_root / RECORD).write_text(json.dumps(record))
    shutil.rmtree(root, ignore_errors=True)
    partial_root.rename(root)
    return root


def _is_there(root: Path, record: dict) -> bool:
    """Whether ``root`` holds exactly this data set; refuses to touch anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    found = root / RECORD
    if not found.is_file():
        raise FileExistsError(f'{root} exists and holds no generated scenes: choose another folder')
    found = json.loads(found.read_text())
    if found != record:
        raise FileExistsError(
            f'{root} holds other scenes, made with {found}, asked for {record}: choose another '
            'folder or overwrite'
        )
    return True


def _write_split(
    pool: ProcessPoolExecutor, root: Path, split: str, seed: list[int], count: int, size: int
) -> None:
    """Writes the images, maps and annotation file of one split."""
    annotations = root / 'annotations'
    for folder in (root / split, annotations / f'panoptic_{split}'):
        folder.mkdir(parents=True)
    write = partial(_write_one, root=root, split=split, seed=seed, size=size)
    entries = list(
        tqdm(pool.map(write, range(count), chunksize=8), desc=split, total=count, unit='scene')
    )
    content = annotation_file(split, seed[0], entries)
    (annotations / f'panoptic_{split}.json').write_text(json.dumps(content))


def _write_one(index: int, root: Path, split: str, seed: list[int], size: int) -> tuple[dict, dict]:
    """Draws and writes one scene; a generator of its own makes it independent of the others."""
    rng = np.random.default_rng([*seed, index])
    return write_scene(draw_scene(rng, size), index + 1, root, split)
