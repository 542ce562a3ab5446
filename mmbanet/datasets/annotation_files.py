"""Files of annotations as they lie on a disk or a server: JSON and PNGs of segment ids.

Every error names the file. Nothing is decoded before its header has been compared with what the
annotations say of it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import os.path as osp
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import cv2
import numpy as np
from mmengine.fileio import get
from mmengine.logging import print_log

try:
    import msgspec
except ImportError:  # Python's own parser takes about twice as long
    msgspec = None

PNG_START = b'\x89PNG\r\n\x1a\n'
PNG_HEADER = 33  # bytes
GREY, GREY_ALPHA = 0, 4  # PNG's types of colour

_NO_EXCEPTION_IS_CAUGHT = nullcontext()
#: An object as the whole file, for msgspec: the members of its lists are given to a hook.
_LISTS_TO_HOOK = dict[str, list[object] | dict | str | int | float | bool | None]


class Notices:
    """How what is found in files gets known: an error ends the reading, all else is said once.

    :class:`.Findings` collects everything instead.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, kind: str, message: str) -> None:
        """Logs the message, unless one of its kind has been logged."""
        if kind not in self._said:
            self._said.add(kind)
            print_log(message, logger='current', level=logging.WARNING)

    def apart(self, kind: str) -> AbstractContextManager:
        """Around the reading of a part whose error says nothing of the other parts."""
        return _NO_EXCEPTION_IS_CAUGHT


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Without Python's cyclic garbage collector, also as a decorator.

    Among the millions of objects of a large annotation file it finds nothing, but looks at all of
    them again and again: half of the time of loading COCO's.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def is_local(path: str, backend_args: dict | None = None) -> bool:
    """Whether a path is one of this machine's file system."""
    return '://' not in path and (backend_args or {}).get('backend', 'local') == 'local'


def check_regular(path: str, what: str) -> None:
    """Raises an error unless there is a file of this machine's file system, which can be read.

    Of a pipe, a read would wait for ever, of a device it would not end.

    Raises:
        FileNotFoundError: There is nothing of this name.
        ValueError: It is a folder, a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f'{what} not found: {osp.abspath(path)}') from None
    if not stat.S_ISREG(mode):
        kind = 'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'
        raise ValueError(f'{osp.abspath(path)}: this {what} is {kind}, not a file')


def read_bytes(path: str, what: str, backend_args: dict | None = None) -> bytes:
    """The content of a file, through MMEngine's file backends.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, is no file, is empty, or is only Git LFS's pointer to the
            file.
    """
    if is_local(path, backend_args):
        path = osp.abspath(path)
        check_regular(path, what)
    try:
        content = get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise FileNotFoundError(f'{what} not found: {path}') from None
    except Exception as error:  # backends of remote storage raise what they like
        raise ValueError(
            f'{path}: this {what} cannot be read with backend_args={backend_args}: '
            f'{type(error).__name__}: {error}'
        ) from error
    if not content:
        raise ValueError(f'{path}: this {what} is empty; get it again')
    if content.startswith(b'version https://git-lfs'):
        raise ValueError(
            f"{path}: this {what} is Git LFS's pointer, not the file itself; run: git lfs pull"
        )
    return content


def read_json(
    path: str,
    what: str = 'annotation file',
    backend_args: dict | None = None,
    object_hook: Callable[[dict], dict] | None = None,
) -> dict:
    """The object in a JSON file, in UTF-8 with or without a byte order mark.

    Args:
        path: Or URL.
        what: It is, for messages.
        backend_args: Of MMEngine's file backends.
        object_hook: As that of :func:`json.loads`; only of objects in the lists of the file's
            object (``annotations``) it is certain to be called.

    Raises: As :func:`read_bytes`; a ValueError for anything else than a JSON object.
    """
    content = [read_bytes(path, what, backend_args)]
    try:
        found = _parse_strictly(content[0], object_hook)
        if found is None:
            # json.loads makes a text of the bytes; popped, they are not kept beside it.
            found = json.loads(content.pop(), object_hook=object_hook)
    except RecursionError:
        raise ValueError(f'{path}: nested too deeply for an {what}') from None
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not in UTF-8 ({error}); save the {what} as UTF-8') from None
    except ValueError as error:
        raise ValueError(
            f'{path}: no valid JSON ({error}); the file may be cut off, get it again'
        ) from None
    if not isinstance(found, dict):
        raise ValueError(
            f'{path}: expected a JSON object as the whole {what}, got {type(found).__name__}'
        )
    return found


def _parse_strictly(content: bytes, object_hook: Callable[[dict], dict] | None) -> dict | None:
    """As :func:`json.loads`; None for what msgspec refuses, such as NaN, and without msgspec."""
    if msgspec is None:
        return None
    try:
        if object_hook is None:
            return msgspec.json.decode(content, type=dict)
        return msgspec.json.decode(
            content,
            type=_LISTS_TO_HOOK,
            dec_hook=lambda _, value: object_hook(value) if isinstance(value, dict) else value,
        )
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None  # json.loads finds the words for it


def read_segment_ids(
    path: str, size: tuple[int, int], image: str, backend_args: dict | None = None
) -> np.ndarray:
    """(H, W) int32: the segment ids R + 256 G + 256² B of a panoptic PNG.

    Args:
        path: Of the PNG.
        size: H and W of its image, as the JSON file states them.
        image: Which image it is, for messages.
        backend_args: Of MMEngine's file backends.

    Raises: As :func:`read_bytes`; a ValueError for another format or size.
    """
    return decode_segment_ids(read_bytes(path, f'PNG of {image}', backend_args), path, size, image)


def decode_segment_ids(content: bytes, path: str, size: tuple[int, int], image: str) -> np.ndarray:
    """As :func:`read_segment_ids`, of the file's content; the path is for messages."""
    try:
        check_png_header(content, size)
    except ValueError as error:
        raise ValueError(f'{osp.abspath(path)}: {image}: {error}') from None
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    if bgr is None:
        raise ValueError(
            f'{osp.abspath(path)}: {image}: not readable as a PNG; it is cut off or damaged, get '
            'it again'
        )
    # R, G, B, 0: the bytes of a little-endian integer. Unlike cvtColor, this starts none of
    # OpenCV's threads, which would not survive the fork of a data loader.
    rgb0 = np.zeros((*bgr.shape[:2], 4), dtype=np.uint8)
    cv2.mixChannels([bgr], [rgb0], [0, 2, 1, 1, 2, 0])
    return rgb0.view('<i4')[..., 0]


def check_png_header(content: bytes, size: tuple[int, int]) -> None:
    """Raises a ValueError unless the first bytes of a PNG are those of a map of ids (H, W)."""
    if not content.startswith(PNG_START) or len(content) < PNG_HEADER:
        raise ValueError('not readable as a PNG; it must be one, with ids as R + 256 G + 256² B')
    width, height, depth, colour = struct.unpack('>IIBB', content[16:26])
    if depth == 16 or colour in (GREY, GREY_ALPHA):
        kind = 'grey' if colour in (GREY, GREY_ALPHA) else 'of several channels'
        raise ValueError(
            f'the PNG is {kind} with {depth} bits a channel, but segment ids must be colours of 8 '
            'bits a channel, R + 256 G + 256² B; write it with panopticapi.utils.id2rgb'
        )
    if (height, width) != tuple(size):
        raise ValueError(
            f'the PNG has {height}x{width} pixels (height x width), the JSON file says '
            f'{size[0]}x{size[1]}; they must be those of the image'
        )
