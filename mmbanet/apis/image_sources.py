"""Where images come from: files, folders, patterns, URLs, videos and webcams, one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from glob import glob, has_magic
from itertools import takewhile
from os import PathLike
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
from mmengine.fileio import get

from mmbanet.datasets.image_files import decode_image, read_image

from .inference import check_array

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')
STREAMS = ('rtsp', 'rtmp', 'udp')

Input = str | PathLike | int | np.ndarray


@dataclass(frozen=True)
class SourceImage:
    """An image that can be read.

    Attributes:
        name: Of what is written of it: the path below the folder that was given, or below those of
            a pattern that have no wildcards, without suffix; of a frame the video's with ``/`` and
            the frame's number in eight digits.
        source: What was given: a file, a URL, or the place of a frame or an array.
        read: The image (H, W, 3) uint8 BGR. A frame can be read until the next one is drawn. Raises
            an OSError or a ValueError where there is none.
    """

    name: str
    source: str
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Found:
    """An input with the name of what is written of it."""

    name: str
    entry: Path | str | int | np.ndarray

    @property
    def is_video(self) -> bool:
        """Whether it gives frames: a video's file or URL, a stream or a webcam."""
        if isinstance(self.entry, (int, np.ndarray)):
            return isinstance(self.entry, int)
        if isinstance(self.entry, Path):
            return self.entry.suffix.lower() in VIDEOS
        url = urlsplit(self.entry)
        return url.scheme in STREAMS or Path(url.path).suffix.lower() in VIDEOS


def find_images(inputs: Input | Iterable[Input]) -> list[Found]:
    """Inputs in their order, with folders (and all in them) and patterns replaced by their files.

    Args:
        inputs: Files of images or videos, folders, patterns, URLs, indices of webcams (also as
            text), arrays (H, W, 3) uint8 BGR; one or many.

    Raises:
        FileNotFoundError: A path or pattern that is not there, or has no images.
        TypeError: An input of another type.
        ValueError: An array that is no image.
    """
    if isinstance(inputs, (str, np.ndarray)) or not isinstance(inputs, Iterable):
        inputs = [inputs]
    return [Found(*item) for number, i in enumerate(inputs) for item in _expand(i, number)]


def distinct(found: Iterable[Found]) -> list[Found]:
    """Each once, in the order of names.

    Raises:
        ValueError: Two images of one name.
    """
    named = {}
    for item in found:
        other = named.setdefault(item.name, item)
        if not _same(other.entry, item.entry):
            raise ValueError(f'two images of the name {item.name}: {other.entry} and {item.entry}')
    return [named[name] for name in sorted(named)]


def count_images(found: Iterable[Found]) -> int | None:
    """How many there are, as far as the files of videos say so; None with a webcam."""
    counts = [_count_frames(item.entry) if item.is_video else 1 for item in found]
    return None if None in counts else sum(counts)


def open_images(found: Iterable[Found]) -> Iterator[SourceImage]:
    """The images of what :func:`find_images` found; videos and webcams give each frame.

    Raises:
        ValueError: A video or webcam that cannot be opened.
    """
    for item in found:
        if item.is_video:
            yield from _frames(item)
        elif isinstance(item.entry, np.ndarray):
            yield SourceImage(item.name, item.name, partial(np.asarray, item.entry))
        elif isinstance(item.entry, Path):
            yield SourceImage(item.name, str(item.entry), partial(read_image, item.entry))
        else:
            yield SourceImage(item.name, item.entry, partial(_read_url, item.entry))


def _expand(given: Input, number: int) -> Iterator[tuple[str, Path | str | int | np.ndarray]]:
    if isinstance(given, np.ndarray):
        check_array(given)
        yield f'{number:08}', given
        return
    if not isinstance(given, (str, PathLike, int)) or isinstance(given, bool):
        raise TypeError(
            'images must be paths, URLs, indices of webcams or NumPy arrays, got '
            f'{type(given).__name__}'
        )
    text = str(given)
    if isinstance(given, int) or (text.isdecimal() and not os.path.exists(text)):
        yield f'webcam{int(text)}', int(text)
    elif '://' in text:
        url = urlsplit(text)
        yield Path(unquote(url.path)).stem or url.netloc, text
    else:
        is_pattern = has_magic(text) and not os.path.exists(text)
        files = list(_matches(text) if is_pattern else _files(Path(text)))
        if not files:
            raise FileNotFoundError(f'no images: {text} (looked for {", ".join(IMAGES + VIDEOS)})')
        yield from files


def _matches(pattern: str) -> Iterator[tuple[str, Path]]:
    plain = list(takewhile(lambda part: not has_magic(part), Path(pattern).parts))
    matches = map(Path, sorted(glob(pattern, recursive=True)))
    # Each once: ** matches a folder and what is in it.
    for file in dict.fromkeys(file for match in matches for _, file in _files(match)):
        yield file.relative_to(Path(*plain)).with_suffix('').as_posix(), file


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_dir():
        for file in sorted(_below(path)):
            # A link that leads nowhere is an image that cannot be read.
            if file.suffix.lower() in IMAGES + VIDEOS and (file.is_file() or not file.exists()):
                yield file.relative_to(path).with_suffix('').as_posix(), file
    elif path.is_file():
        yield path.stem, path
    else:
        raise FileNotFoundError(f'no such image or folder: {path.absolute()}')


def _below(folder: Path) -> Iterator[Path]:
    """The files in a folder and in those below it or linked there, each folder once."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort(key=lambda name: (os.path.islink(os.path.join(place, name)), name))
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        yield from (Path(place, name) for name in names)


def _same(one: object, other: object) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return one is other or (isinstance(one, (str, int)) and one == other)


def _read_url(url: str) -> np.ndarray:
    try:
        content = get(url)
    except Exception as error:  # each backend of MMEngine's, and each kind of server, has its own
        raise OSError(f'not read: {url} ({type(error).__name__}: {error})') from error
    return decode_image(content, url)


def _count_frames(entry: Path | str | int) -> int | None:
    if isinstance(entry, int) or (isinstance(entry, str) and urlsplit(entry).scheme in STREAMS):
        return None
    capture = cv2.VideoCapture(str(entry))
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return frames if frames > 0 else None


def _frames(item: Found) -> Iterator[SourceImage]:
    is_webcam = isinstance(item.entry, int)
    capture = cv2.VideoCapture(item.entry if is_webcam else str(item.entry))
    source = f'webcam {item.entry}' if is_webcam else str(item.entry)
    try:
        if not capture.isOpened():
            raise ValueError(f'not a video or webcam that can be opened: {source}')
        number = 0
        # Frames that nobody reads are not decoded to pixels.
        while capture.grab():
            place = f'{source}, frame {number}'
            yield SourceImage(f'{item.name}/{number:08}', place, partial(_retrieve, capture, place))
            number += 1
        if number == 0:
            raise ValueError(f'no frames: {source}')
    finally:
        capture.release()


class Frames:
    """Frames of videos by their numbers, as ``source`` of :class:`SourceImage` has them."""

    def __init__(self) -> None:
        self._path, self._capture, self._next = None, None, 0

    def read(self, path: Path, number: int) -> np.ndarray:
        """A frame (H, W, 3) uint8 BGR. Those after the last one read come fast.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no video, or has fewer frames.
        """
        if path != self._path or number < self._next:
            if not path.is_file():
                raise FileNotFoundError(f'video not found: {path.absolute()}')
            self._path, self._capture, self._next = path, cv2.VideoCapture(str(path)), 0
        while self._next <= number:
            if not self._capture.grab():
                raise ValueError(f'no frame {number} in {path}')
            self._next += 1
        return _retrieve(self._capture, f'{path}, frame {number}')


def _retrieve(capture: cv2.VideoCapture, place: str) -> np.ndarray:
    there, image = capture.retrieve()
    if not there:
        raise ValueError(f'not an image: {place}')
    return image
