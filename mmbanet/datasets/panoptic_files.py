"""How panoptic annotations are put into files, for whatever makes a data set."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, which is gone at the end unless it was renamed.

    What is written there and renamed at the end is complete, or not there at all.
    """
    # The process id keeps two runs for the same data set apart; the later to end fails to rename.
    folder = target.with_name(f'.{target.name}.partial-{os.getpid()}')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_within(out: Path, folder: Path) -> Path:
    """Makes a folder below the one that is written to.

    Raises:
        ValueError: It is elsewhere, by a link or by its name.
    """
    if not folder.resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f'{folder} leads to {folder.resolve()}, outside of {out}, where alone is written: '
            'remove the link, or choose another folder'
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Lets ``write`` fill a file beside ``path`` and gives it that name when it is complete."""
    partial = path.with_name(f'.partial.{path.name}')
    partial.unlink(missing_ok=True)  # a link would be followed
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_image(path: Path, rgb: np.ndarray, options: tuple[int, ...] = ()) -> None:
    """Writes an image (H, W, 3) uint8 RGB; ``options`` are OpenCV's. Raises an OSError."""
    # Encoding apart from writing: cv2.imwrite hides a full disk behind a return value.
    # cvtColor would start OpenCV's threads, which do not survive the fork of a data loader.
    _, data = cv2.imencode(path.suffix, cv2.merge(cv2.split(rgb)[::-1]), options)
    path.write_bytes(data.tobytes())


def write_segment_map(path: Path, ids: np.ndarray) -> None:
    """Writes a map of segment ids (H, W) as the format's PNG: id = R + 256 G + 256² B."""
    write_image(path, cv2.merge([(ids >> shift).astype(np.uint8) for shift in (0, 8, 16)]))


def distinct_ids(colors: list[tuple[int, int, int]]) -> list[int]:
    """Unique segment ids near the segments' colours, so that the PNG can be looked at."""
    ids: dict[int, None] = {}
    for r, g, b in colors:
        # 0 is void.
        while (number := r + 256 * g + 65536 * b) in ids or number == 0:
            # Large steps keep two segments of one class apart for the eye.
            r, g, b = (r + 29) % 256, (g + 47) % 256, (b + 13) % 256
        ids[number] = None
    return list(ids)


def segment_info(segment_id: int, category_id: int, mask: np.ndarray) -> dict:
    """An entry of ``segments_info``: of a mask (H, W) bool with one pixel at least."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(cols[0]), int(rows[0])
    return {
        'id': int(segment_id),
        'category_id': category_id,
        'area': int(np.count_nonzero(mask)),
        'bbox': [x, y, int(cols[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        'iscrowd': 0,
    }
