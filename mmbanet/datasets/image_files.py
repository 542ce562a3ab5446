"""Images as they lie on a disk or a server: their headers, and their pixels.

The only place that opens them. Every error names the file. Nothing is decoded before its header has
been looked at: a few kilobytes can claim to be an image that no memory holds.
"""

from __future__ import annotations

import io
import os
import os.path as osp
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import cv2
import mmcv
import numpy as np
from PIL import Image

from .annotation_files import PNG_START, Notices, check_regular

EXIF_ORIENTATION = 0x0112
FIRST_TURNED = 5  # EXIF orientations from here on swap height and width


@contextmanager
def open_image(path: str | PathLike, content: bytes | None = None) -> Iterator[Image.Image]:
    """An image by Pillow, which reads no pixels before they are asked for.

    Args:
        path: Of the file.
        content: Of the file, where it has been read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Pillow cannot read it, or it has more pixels than Pillow trusts.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f'image not found: {_place(path)}') from None
    except Image.DecompressionBombError as error:
        raise ValueError(
            f'{_place(path)}: {error}; cut the image into tiles, or, if you trust it, raise '
            'PIL.Image.MAX_IMAGE_PIXELS'
        ) from None
    except Image.UnidentifiedImageError:
        raise ValueError(f'{_place(path)}: not readable as an image') from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # of Pillow's many formats
        raise ValueError(f'{_place(path)}: not readable as an image ({error})') from None


def image_size(path: str | PathLike, exif: bool) -> tuple[int, int]:
    """H and W of an image, without decoding it: as it is stored, or as its EXIF data turn it.

    Raises: As :func:`open_image`.
    """
    with open_image(path) as header:
        orientation = _orientation(header) if exif else 1
        return header.size if orientation >= FIRST_TURNED else header.size[::-1]


def read_image(path: str | PathLike, flag: str = 'color') -> np.ndarray:
    """(H, W, 3) uint8 BGR of any image file, turned as its EXIF data says.

    Args:
        path: Of the file.
        flag: As of :func:`decode_image`.

    Raises:
        FileNotFoundError: There is no such file.
        TypeError: It is no path.
        ValueError: The file is no image, or has more pixels than can be trusted.
    """
    check_regular(os.fspath(path), 'image')
    return decode_image(Path(path).read_bytes(), path, flag)


def decode_image(
    content: bytes, path: str | PathLike, flag: str = 'color', backend: str = 'cv2'
) -> np.ndarray:
    """The pixels in a file's content.

    Args:
        content: Of the file.
        path: Of the file or what else it comes from, for messages.
        flag: What :func:`mmcv.imfrombytes` makes of it; (H, W, 3) uint8 BGR by default.
        backend: What it decodes with.

    Raises:
        ValueError: It is no image, or has more pixels than can be trusted.
    """
    place = _place(path)
    try:
        Image.open(io.BytesIO(content)).close()
        problem = 'cut off or damaged'
    except Image.DecompressionBombError as error:
        raise ValueError(f'not an image that can be read: {place} ({error})') from None
    except Exception:  # Pillow does not know all formats that OpenCV does
        problem = 'not an image'
    try:
        image = mmcv.imfrombytes(content, flag, backend=backend) if content else None
    except Exception as error:  # each backend raises its own
        raise ValueError(f'{problem}: {place} ({error})') from None
    if image is None:
        raise ValueError(f'{problem}: {place}')
    return image


def check_image_header(
    path: str,
    size: tuple[int, int],
    image: str,
    exif: bool,
    notices: Notices,
    content: bytes | None = None,
) -> None:
    """Compares the size of an image with the JSON's, without decoding it.

    Args:
        path: Of the image.
        size: H and W, as the JSON file states them.
        image: Which image it is, for messages.
        exif: Whether it will be loaded as its EXIF data turn it.
        notices: Says where the size cannot tell whether the annotations are turned as well.
        content: Of the file, where it has been read.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, or has another size.
    """
    where = f'{_place(path)}: {image}'
    try:
        with open_image(path, content) as header:
            found = header.size[::-1]
            orientation = _orientation(header) if exif else 1
    except ValueError as error:
        is_known = osp.splitext(path)[1].lower() in Image.registered_extensions()
        if not is_known and cv2.haveImageReader(path):
            return
        raise ValueError(f'{image}: {error}; get it again') from None
    remedy = (
        'if the annotations were drawn on the image as stored, load it by '
        "dict(type='mmbanet.LoadImage', color_type='color_ignore_orientation')"
    )
    said = f'the JSON file says {size[0]}x{size[1]} (height x width)'
    is_turned = orientation >= FIRST_TURNED
    loaded = found[::-1] if is_turned else found
    if loaded != tuple(size):
        turned = f', turned by its EXIF data; {remedy}' if is_turned else ''
        raise ValueError(
            f'{where}: the image has {loaded[0]}x{loaded[1]} pixels{turned}; {said}; both must '
            'agree'
        )
    if orientation != 1 and not (is_turned and found != loaded):
        notices.say('exif', f'{where}: its EXIF data turn or mirror it; {remedy}')


def check_loaded_size(path: str, found: tuple[int, int], size: tuple[int, int], image: str) -> None:
    """Raises a ValueError if an image was loaded in another size (H, W) than that of the JSON."""
    if tuple(found) != tuple(size):
        raise ValueError(
            f'{_place(path)}: {image}: loaded with {found[0]}x{found[1]} pixels (height x '
            f'width), but annotated with {size[0]}x{size[1]}'
        )


def _orientation(header: Image.Image) -> int:
    """That of the EXIF data, 1 without.

    Of a PNG, Pillow decodes all pixels to look for EXIF data behind them; here they are stepped
    over.
    """
    if header.format == 'PNG':
        place = header.fp.tell()
        header.fp.seek(len(PNG_START))
        while (start := header.fp.read(8)) and start[4:] != b'eXIf':
            header.fp.seek(int.from_bytes(start[:4], 'big') + 4, io.SEEK_CUR)  # and its checksum
        header.fp.seek(place)
        if not start:
            return 1
    return header.getexif().get(EXIF_ORIENTATION, 1)


def _place(path: str | PathLike) -> str:
    """A path for messages; that of a URL as it is."""
    return str(path) if '://' in str(path) else osp.abspath(path)
