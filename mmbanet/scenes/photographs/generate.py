"""Writes a data set of composed scenes: parallel, the same for any number of workers."""

from __future__ import annotations

import hashlib
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..data_set import SPLITS, Entries, check_numbers, write_data_set
from .compose import Composer
from .source import PhotographSource
from .writer import INSTANCE_MASKS, write_scene

#: Part of the record of a data set; raise it when the same seed gives other images.
COMPOSER_VERSION = 1


def compose_scenes(
    root: str | Path,
    photographs: str | Path,
    *,
    train: int = 1000,
    val: int = 200,
    size: int | None = None,
    seed: int = 0,
    overlap: float = 0.8,
    same_class: float | None = None,
    instance_masks: str = 'things_on_top',
    workers: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Composes a data set in COCO's panoptic layout of photographs, unless it is already there.

    The layout is that of the drawn scenes, see :func:`mmbanet.scenes.generate_scenes`.
    Scenes of a split are made of photographs of the same split.

    Args:
        root: Folder of the data set.
        photographs: Folder of a COCO panoptic data set with ``annotations/panoptic_train*.json``
            and ``annotations/panoptic_val*.json``.
        train: Images of the training split.
        val: Images of the validation split.
        size: Longer side of the images in pixels; that of the photographs by default.
        seed: Non-negative; an image depends on it, its split and its number alone.
        overlap: Share of the cut-outs, 0..1, that are placed to cover a thing or be covered.
        same_class: Share of those, 0..1, that overlap a thing of their own class; by default as
            frequent as the classes are.
        instance_masks: What the masks of ``instances_*.json`` hold: what is ``'visible'``; that and
            the small ``'things_on_top'``, as COCO's annotators draw them; or the full masks,
            ``'amodal'``.
        workers: Processes; all cores if not given.
        overwrite: Replace other scenes in ``root``; never what was not generated.

    Returns:
        ``root``.

    Raises:
        ValueError: An argument is out of range, or nothing can be cut out.
        FileNotFoundError: There are no photographs, or no annotations.
        FileExistsError: ``root`` holds something else, other scenes without ``overwrite``, or
            scenes of which files are gone or changed.
        OSError: ``root`` cannot be written.
    """
    check_numbers(train=(train, 0), val=(val, 0), seed=(seed, 0), workers=(workers or 1, 1))
    if size is not None:
        check_numbers(size=(size, 64))
    for name, share in (('overlap', overlap), ('same_class', same_class)):
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f'{name} must be in 0..1, got {share}')
    if instance_masks not in INSTANCE_MASKS:
        raise ValueError(f'instance_masks must be one of {INSTANCE_MASKS}, got {instance_masks!r}')
    counts = dict(zip(SPLITS, (train, val)))
    # Read here, too, so that what is wrong with them is said before anything is made.
    composers = {
        split: _composer(str(photographs), split, size, overlap, same_class)
        for split, count in counts.items()
        if count > 0
    }
    digest = hashlib.sha256()
    for composer in composers.values():
        digest.update(composer.source.file.read_bytes())
    record = dict(
        version=COMPOSER_VERSION,
        photographs=digest.hexdigest()[:16],
        **counts,
        size=size,
        seed=seed,
        overlap=overlap,
        same_class=same_class,
        instance_masks=instance_masks,
    )
    write_one = partial(
        _write_one, str(photographs), size, seed, overlap, same_class, instance_masks
    )
    categories = {split: composer.source.categories for split, composer in composers.items()}
    return write_data_set(root, record, counts, write_one, categories, workers, overwrite)


# Each process makes one for itself, and keeps its photographs and cut-outs.
@lru_cache(2)
def _composer(
    photographs: str, split: str, size: int | None, overlap: float, same_class: float | None
) -> Composer:
    return Composer(PhotographSource(photographs, split, size), overlap, same_class)


def _write_one(
    photographs: str,
    size: int | None,
    seed: int,
    overlap: float,
    same_class: float | None,
    instance_masks: str,
    folder: Path,
    split: str,
    index: int,
) -> Entries:
    """Composes and writes one scene; a generator of its own makes it independent of the others."""
    composer = _composer(photographs, split, size, overlap, same_class)
    scene = composer.compose(np.random.default_rng([seed, SPLITS.index(split), index]))
    categories = composer.source.categories
    return write_scene(scene, index + 1, folder, split, categories, instance_masks)
