"""Writes a data set of scenes: parallel, the same for any number of workers, all or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
from tqdm import tqdm

from mmbanet.datasets.panoptic_files import partial_folder

SPLITS = ('train', 'val')
RECORD = 'scenes.json'


class Entries(NamedTuple):
    """What the JSON files of a split say of an image.

    Attributes:
        image: Of ``images``, in both files.
        panoptic: Of the panoptic file's ``annotations``.
        instances: Of the instances file's ``annotations``, still without ``id``.
    """

    image: dict
    panoptic: dict
    instances: list[dict]


#: Writes the scene of a folder, split and number.
WriteOne = Callable[[Path, str, int], Entries]


def check_numbers(**bounds: tuple[int, int]) -> None:
    """Raises a ValueError unless every (value, least) of a name is in order."""
    for name, (value, least) in bounds.items():
        if value < least:
            raise ValueError(f'{name} must be at least {least}, got {value}')


def write_data_set(
    root: str | Path,
    record: dict,
    counts: dict[str, int],
    write_one: WriteOne,
    categories: dict[str, list[dict]],
    workers: int | None,
    overwrite: bool,
) -> Path:
    """Writes a data set in COCO's layout, unless it is already there.

    ``root`` then holds, for each split, the panoptic annotations in
    ``annotations/panoptic_{split}.json`` and ``annotations/panoptic_{split}/*.png``, the instances
    in ``annotations/instances_{split}.json`` and the images in ``{split}/*.jpg``; and in
    ``scenes.json`` the record of how all was made, with the digests of the files. Everything is
    written to a folder beside ``root`` that is renamed at the end, so that an interrupted run
    leaves nothing that looks complete.

    Args:
        root: Folder of the data set.
        record: How it is made: ``version``, ``seed`` and what else decides it, for JSON.
        counts: Images of each split.
        write_one: Writes a scene.
        categories: Of each split.
        workers: Processes; all cores if not given.
        overwrite: Replace other scenes in ``root``; never what was not generated.

    Returns:
        ``root``.

    Raises:
        FileExistsError: ``root`` holds something else, other scenes without ``overwrite``, or
            scenes of which files are gone or changed.
        OSError: ``root`` cannot be written.
    """
    # A link to a folder elsewhere stays, and what it points to is written.
    target = Path(root).resolve()
    found, files = _read_record(target)
    changed = [name for name, digest in files.items() if _digest(target / name) != digest]
    if changed:
        raise FileExistsError(
            f'{root} is incomplete: {changed[0]} is gone or was changed (of its {len(files)} files '
            f'{len(changed)}): delete the folder to generate it again, or choose another'
        )
    if found == record and not overwrite:
        return Path(root)
    if found is not None and not overwrite:
        raise FileExistsError(
            f'{root} holds other scenes, made with {found}, asked for {record}: choose another '
            'folder or overwrite'
        )
    foreign = _files(target) - {*files, RECORD}
    if foreign:
        raise FileExistsError(
            f'{root} holds {min(foreign)}, which was not generated: choose another folder'
        )

    with partial_folder(target) as folder:
        with _workers(workers or os.cpu_count()) as pool:
            for split, count in counts.items():
                annotations = folder / 'annotations'
                for part in (folder / split, annotations / f'panoptic_{split}'):
                    part.mkdir(parents=True)
                scenes = pool.map(partial(write_one, folder, split), range(count), chunksize=8)
                entries = list(tqdm(scenes, desc=split, total=count, unit='scene'))
                _write_annotations(annotations, split, entries, categories.get(split, []))
        files = {name: _digest(folder / name) for name in sorted(_files(folder))}
        (folder / RECORD).write_text(json.dumps(dict(record, files=files), indent=0))
        if found is not None:
            shutil.rmtree(target)
        folder.rename(target)
    return Path(root)


def _write_annotations(
    folder: Path, split: str, entries: list[Entries], categories: list[dict]
) -> None:
    images = [entry.image for entry in entries]
    instances = [instance for entry in entries for instance in entry.instances]
    info = {'description': f'mmbanet scenes, {split}'}
    panoptic = {
        'info': info,
        'images': images,
        'annotations': [entry.panoptic for entry in entries],
        'categories': categories,
    }
    (folder / f'panoptic_{split}.json').write_text(json.dumps(panoptic))
    things = {
        'info': info,
        'images': images,
        'annotations': [{'id': i, **instance} for i, instance in enumerate(instances, 1)],
        'categories': [
            {key: value for key, value in category.items() if key not in ('isthing', 'color')}
            for category in categories
            if category['isthing']
        ],
    }
    (folder / f'instances_{split}.json').write_text(json.dumps(things))


def _read_record(root: Path) -> tuple[dict | None, dict[str, str]]:
    """How the scenes in ``root`` were made, None if nothing is there; and their files' digests.

    Raises:
        FileExistsError: ``root`` holds something else, which is not ours to replace.
    """
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None, {}
    try:
        found = json.loads((root / RECORD).read_text())
        files = found.pop('files')
        known = isinstance(files, dict) and {'version', *SPLITS, 'seed'} <= found.keys()
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise FileExistsError(
            f'{root} exists and holds no generated scenes with the record {RECORD} of all files: '
            'delete it, or choose another folder'
        )
    return found, files


def _files(root: Path) -> set[str]:
    """All that is in a folder but its folders, relative to it."""
    paths = (path for path in root.rglob('*') if path.is_symlink() or not path.is_dir())
    return {path.relative_to(root).as_posix() for path in paths}


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None if there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


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
