"""A look at the files that annotations name, before the first of them is needed.

It opens each, reads its header and its last bytes, and decodes only what seems to be cut off: what
is damaged between the two is found when the file is loaded.
"""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple, TypeVar

from .annotation_files import (
    PNG_START,
    Notices,
    check_png_header,
    check_regular,
    is_local,
    read_bytes,
    read_segment_ids,
)
from .coco_file import name_image
from .image_files import check_image_header, decode_image
from .panoptic_annotations import PanopticAnnotations

# Files that are opened at once: on a network's disk most of the time is waiting.
THREADS = 16
TAIL = 1024  # bytes in which the end must be; some programs add a few of their own
ENDS = {PNG_START: b'IEND', b'\xff\xd8\xff': b'\xff\xd9'}  # of PNG and JPEG, by how they begin

T = TypeVar('T')


def find_faults(check: Callable[[T], None], items: Iterable[T]) -> dict[T, OSError | ValueError]:
    """What a check raises, by the item that it is raised of."""

    def fault_of(item: T) -> OSError | ValueError | None:
        try:
            check(item)
        except (OSError, ValueError) as error:
            return error
        return None

    items = list(items)
    with ThreadPoolExecutor(THREADS) as pool:
        faults = zip(items, pool.map(fault_of, items))
        return {item: fault for item, fault in faults if fault is not None}


def raise_first(faults: dict[T, OSError | ValueError], ann_file: str) -> None:
    """Raises the first fault, which says how many there are; returns if there is none."""
    if faults:
        first = next(iter(faults.values()))
        others = f'; {len(faults)} files of {ann_file} cannot be used' if len(faults) > 1 else ''
        raise type(first)(f'{first}{others}') from None


class NamedFile(NamedTuple):
    """A file that annotations name.

    Attributes:
        path: Of the file.
        size: H and W of its image, as the JSON file states them.
        image: Which image it is, for messages.
    """

    path: str
    size: tuple[int, int]
    image: str


def images_of(annotations: PanopticAnnotations, img_prefix: str) -> list[NamedFile]:
    """The annotated images in a folder."""
    chosen = [annotations.images[image_id] for image_id in annotations.annotations]
    return [
        NamedFile(
            osp.join(img_prefix, image['file_name']),
            (image['height'], image['width']),
            name_image(image['id'], image),
        )
        for image in chosen
    ]


def pngs_of(annotations: PanopticAnnotations, seg_prefix: str) -> list[NamedFile]:
    """The PNGs of the annotated images in a folder."""
    names = [annotation['file_name'] for annotation in annotations.annotations.values()]
    images = images_of(annotations, '')
    return [i._replace(path=osp.join(seg_prefix, name)) for i, name in zip(images, names)]


def check_pngs(
    files: Iterable[NamedFile],
    folder: str,
    ann_file: str,
    notices: Notices,
    backend_args: dict | None = None,
) -> None:
    """Raises an error unless PNGs begin and end as they must.

    Args:
        files: The PNGs.
        folder: Of the PNGs; it is said where one lies outside of it.
        ann_file: What names them.
        notices: Says so.
        backend_args: Of MMEngine's file backends; what is not on this machine is not looked at.

    Raises: As :func:`read_segment_ids`, of the first one.
    """

    def check(file: NamedFile) -> None:
        say_outside(file.path, folder, notices, backend_args)
        if is_local(file.path, backend_args):
            check_png_file(*file)

    raise_first(find_faults(check, files), ann_file)


def find_unreadable(
    files: Iterable[NamedFile],
    folder: str,
    exif: bool,
    notices: Notices,
    backend_args: dict | None = None,
) -> dict[NamedFile, OSError | ValueError]:
    """What is wrong with the headers or ends of images.

    Args:
        files: The images.
        folder: Of the images; it is said where one lies outside of it.
        exif: Whether they will be loaded as their EXIF data turn them.
        notices: Says so.
        backend_args: Of MMEngine's file backends; what is not on this machine is not looked at.
    """

    def check(file: NamedFile) -> None:
        say_outside(file.path, folder, notices, backend_args)
        if is_local(file.path, backend_args):
            check_image_file(*file, exif, notices)

    return find_faults(check, files)


def check_png_file(path: str, size: tuple[int, int], image: str) -> None:
    """Raises what :func:`read_segment_ids` raises of a PNG whose header or end is not right."""
    check_regular(path, f'PNG of {image}')
    head, tail = _ends(path)
    try:
        check_png_header(head, size)
        is_whole = ENDS[PNG_START] in tail
    except ValueError:
        is_whole = False
    if not is_whole:
        read_segment_ids(path, size, image)


def check_image_file(
    path: str, size: tuple[int, int], image: str, exif: bool, notices: Notices
) -> None:
    """Raises an error if an image's header or end is not right.

    Args, Raises: As of :func:`check_image_header`.
    """
    check_regular(path, image)
    check_image_header(path, size, image, exif, notices)
    head, tail = _ends(path)
    if any(head.startswith(start) and end not in tail for start, end in ENDS.items()):
        decode_image(read_bytes(path, image), path)


def say_outside(path: str, folder: str, notices: Notices, backend_args: dict | None = None) -> None:
    """Says once where a file lies elsewhere than in its folder, by its name or by links."""
    real, base = path, folder
    if is_local(path, backend_args):
        real = osp.join(_real_folder(osp.dirname(path)), osp.basename(path))
        real, base = osp.realpath(real) if osp.islink(real) else real, _real_folder(folder)
    if not real.startswith(osp.join(base, '')):
        notices.say(
            f'outside {folder}',
            f'{path} is read from {real}, outside of its folder {base}; others may be, too',
        )


@lru_cache
def _real_folder(path: str) -> str:
    return osp.realpath(path)


def _ends(path: str) -> tuple[bytes, bytes]:
    """The first bytes of a file, and its last ones."""
    with open(path, 'rb') as file:
        head = file.read(TAIL)
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return head, file.read()
