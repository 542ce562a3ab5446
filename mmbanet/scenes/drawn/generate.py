"""Generates a data set of drawn scenes."""

from functools import partial
from pathlib import Path

import numpy as np

from ..data_set import SPLITS, Entries, check_numbers, write_data_set
from .classes import CATEGORIES
from .scene import draw_scene
from .writer import write_scene

#: Part of the record of a data set; raise it when the same seed gives other files.
GENERATOR_VERSION = 3
MIN_SIZE = 64


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
    how all was made in ``scenes.json``. An interrupted run leaves nothing.

    Args:
        root: Folder of the data set.
        train: Images of the training split.
        val: Images of the validation split.
        size: Side of the images in pixels, at least 64.
        seed: Non-negative; an image depends on it, its split and its number alone.
        workers: Processes; all cores if not given.
        overwrite: Replace other scenes in ``root``; never what was not generated.

    Returns:
        ``root``.

    Raises:
        ValueError: A number is out of range.
        FileExistsError: ``root`` holds something else, other scenes without ``overwrite``, or
            scenes of which files are gone or changed.
        OSError: ``root`` cannot be written.
    """
    check_numbers(
        train=(train, 0),
        val=(val, 0),
        size=(size, MIN_SIZE),
        seed=(seed, 0),
        workers=(workers or 1, 1),
    )
    counts = dict(zip(SPLITS, (train, val)))
    record = dict(version=GENERATOR_VERSION, **counts, size=size, seed=seed)
    categories = dict.fromkeys(SPLITS, CATEGORIES)
    write_one = partial(_write_one, size, seed)
    return write_data_set(root, record, counts, write_one, categories, workers, overwrite)


def _write_one(size: int, seed: int, folder: Path, split: str, index: int) -> Entries:
    """Draws and writes one scene; a generator of its own makes it independent of the others."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return write_scene(draw_scene(rng, size), index + 1, folder, split)
