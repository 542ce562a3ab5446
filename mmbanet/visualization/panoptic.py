"""Panoptic maps as colours, pictures side by side, and their files."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mmbanet.structures import class_color, decode_ids, index_segments

LONGEST = 65500  # pixels of a side that OpenCV writes as JPEG


def class_palette(metainfo: dict) -> list[tuple[int, int, int]]:
    """RGB of each class: the data set's palette, else colours that are easy to tell apart.

    Args:
        metainfo: A data set's; needs ``classes``, may have a ``palette`` with a colour for each.
    """
    count, palette = len(metainfo['classes']), metainfo.get('palette')
    if isinstance(palette, (list, tuple)) and len(palette) >= count:
        return [tuple(color) for color in palette]
    return [tuple(class_color(number)) for number in range(count)]


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture (H, W, 3), uint8 RGB, whole or not at all.

    A side that is longer than a JPEG can be is shortened.

    Raises:
        OSError: The file cannot be written.
    """
    size = [min(side, LONGEST) for side in picture.shape[1::-1]]
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    # Encoding apart from writing: cv2.imwrite hides a full disk behind a return value.
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    partial = path.with_name(f'.{path.name}.partial')
    partial.unlink(missing_ok=True)  # a link would be followed
    try:
        partial.write_bytes(data.tobytes())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def colorize(panoptic: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """A panoptic map in the palette's colours, each instance in its own shade with a white edge.

    Args:
        panoptic: (H, W) in mmdet's encoding: ``label + instance * 1000``; void is any label beyond
            the palette and becomes black.
        palette: RGB of each class.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    ids, places = index_segments(panoptic)
    colors = np.zeros((len(ids), 3), dtype=np.uint8)
    for color, label, instance in zip(colors, *decode_ids(ids)):
        if label < len(palette):
            shade = np.random.default_rng(instance).integers(-40, 41, 3) if instance else 0
            color[:] = np.clip(np.asarray(palette[label]) + shade, 0, 255)
    picture = colors.take(places, axis=0)
    picture[find_edges(panoptic)] = 255
    return picture


def find_edges(panoptic: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour belongs to another segment."""
    edges = np.zeros(panoptic.shape, dtype=bool)
    edges[:, :-1] |= panoptic[:, :-1] != panoptic[:, 1:]
    edges[:-1] |= panoptic[:-1] != panoptic[1:]
    return edges


def draw_grid(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], cell: int = 256, gap: int = 6
) -> np.ndarray:
    """Pictures in a grid with a title above each column.

    Args:
        rows: Rows of (H, W, 3) uint8 RGB pictures, as many in each row as there are titles.
        titles: Column titles.
        cell: Longer side of a picture in the grid, in pixels.
        gap: White space between the pictures.

    Returns:
        (H, W, 3) uint8 RGB.
    """

    def fit(picture: np.ndarray) -> np.ndarray:
        scale = cell / max(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        return cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)

    header = np.full((28, cell * len(titles) + gap * (len(titles) + 1), 3), 255, dtype=np.uint8)
    for i, title in enumerate(titles):
        font = cv2.FONT_HERSHEY_SIMPLEX
        (width, _), _ = cv2.getTextSize(title, font, 0.55, 1)
        x = gap + i * (cell + gap) + (cell - width) // 2
        cv2.putText(
            header, title, (x, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0,) * 3, 1, cv2.LINE_AA
        )

    bands = [header]
    for row in rows:
        pictures = [fit(picture) for picture in row]
        height = max(picture.shape[0] for picture in pictures)
        band = np.full((height + gap, header.shape[1], 3), 255, dtype=np.uint8)
        for i, picture in enumerate(pictures):
            x = gap + i * (cell + gap)
            band[: picture.shape[0], x : x + picture.shape[1]] = picture
        bands.append(band)
    return np.concatenate(bands)
