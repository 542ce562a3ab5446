"""One picture of a panoptic map over its image: names, contours, void hatched, errors marked.

Shapes: H x W pixels; maps in mmdet's encoding, ``label + instance * 1000``, void any other label.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from mmbanet.structures import decode_ids, index_segments
from mmbanet.structures.matching import (
    NO_LABEL,
    UNLISTED,
    VOID,
    Segments,
    TrueSegments,
    count_overlaps,
    find_runs,
    match_segments,
    segment_iou,
)

from .panoptic import colorize, find_edges

OPACITY = 0.55
# Void: stripes of this many pixels, dark and darker.
STRIPE = 6
# OpenCV's own letters are ASCII alone.
FONT, FONT_SIZE = Path(mpl.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'), 12
TALL = 'hg'  # as high as any line
LINE = 18  # height of the legend's lines
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
#: RGB of the contours of what is missed or false, and of what has the wrong class.
ERROR_COLORS = dict(unmatched=(255, 0, 0), wrong_class=(255, 165, 0))


class Errors(NamedTuple):
    """Ids of segments that do not match, by PQ's matching: IoU over 0.5 and the same class.

    Attributes:
        missed: Of the truth, that no segment of the prediction covers.
        false: Of the prediction, that cover no segment of the truth.
        confused: Pairs (true id, predicted id) with IoU over 0.5 of different classes.
    """

    missed: list[int]
    false: list[int]
    confused: list[tuple[int, int]]


def find_errors(
    truth: np.ndarray, prediction: np.ndarray, num_classes: int, crowds: Collection[int] = ()
) -> Errors:
    """What is missed, false or of the wrong class.

    As in PQ, pixels that are void in the truth do not count, nor do predicted segments that lie
    mostly there or in a crowd region of their class; nobody misses a crowd region.

    Args:
        truth: (H, W).
        prediction: (H, W).
        num_classes: Labels from there on are void.
        crowds: Ids of the crowd regions in the truth, one for a class.
    """
    # Counted from 1, since 0 is void there.
    true_map, found_map = (
        np.where(decode_ids(ids)[0] < num_classes, ids.astype(np.int64) + 1, VOID)
        for ids in (truth, prediction)
    )
    true_ids = np.array([VOID, *np.unique(true_map[true_map != VOID]), UNLISTED])
    found_ids = np.unique(found_map)
    true_labels, found_labels = (
        np.where((ids == VOID) | (ids == UNLISTED), NO_LABEL, decode_ids(ids - 1)[0])
        for ids in (true_ids, found_ids)
    )
    is_crowd = np.isin(true_ids, np.array(list(crowds), dtype=np.int64) + 1)
    rows = is_crowd.nonzero()[0].tolist()
    found = Segments(found_ids, found_labels)
    true = TrueSegments(
        true_ids,
        true_labels,
        np.full(len(true_ids), np.nan),
        (true_labels != NO_LABEL) & ~is_crowd,
        {int(true_labels[row]): row for row in rows},
    )
    overlaps = count_overlaps(true, found, find_runs(true_map, found_map))
    matches = match_segments(
        true, found, overlaps, segment_iou(overlaps, overlaps.sum(1), overlaps)
    )
    confused = np.argwhere(matches.is_confused)
    is_missed, is_false = matches.is_missed.copy(), matches.is_false.copy()
    is_missed[confused[:, 0]] = is_false[confused[:, 1]] = False
    return Errors(
        (true_ids[is_missed] - 1).tolist(),
        (found_ids[is_false] - 1).tolist(),
        [(int(true_ids[i]) - 1, int(found_ids[j]) - 1) for i, j in confused],
    )


def draw_panoptic(
    image: np.ndarray,
    panoptic: np.ndarray,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
    marks: dict[int, tuple[int, int, int]] | None = None,
    legend: bool = True,
) -> np.ndarray:
    """A panoptic map over its image.

    Args:
        image: (H, W, 3) uint8 RGB.
        panoptic: (H, W).
        classes: Names.
        palette: RGB of each class.
        marks: Colour of the thick contour that segments have, by id.
        legend: Whether lines below name the classes that are there.

    Returns:
        (H, W, 3) uint8 RGB; with a legend it is taller.
    """
    ids, places = index_segments(panoptic)
    labels, _ = decode_ids(ids)
    is_void = labels >= len(classes)
    colors = colorize(panoptic, palette)
    rows, columns = is_void[places].nonzero()
    colors[rows, columns] = np.where((rows + columns) // STRIPE % 2 == 0, 40, 90)[:, None]
    picture = cv2.addWeighted(image, 1 - OPACITY, colors, OPACITY, 0)
    picture[find_edges(panoptic)] = 255
    for place in np.flatnonzero(~is_void).tolist():
        mask, segment = (places == place).astype(np.uint8), int(ids[place])
        if marks and segment in marks:
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, marks[segment], 2)
        _write_name(picture, mask, classes[labels[place]])
    if legend:
        labels = np.unique(labels[~is_void]).tolist()
        picture = np.concatenate([picture, _legend(picture.shape[1], labels, classes, palette)])
    return picture


def _write_name(picture: np.ndarray, mask: np.ndarray, name: str) -> None:
    """Where the segment is widest, if it has the room."""
    left, top, columns, rows = cv2.boundingRect(mask)
    width, height = _text_size(name)
    room = cv2.erode(
        mask[top : top + rows, left : left + columns],
        np.ones((height + 4, width + 4), np.uint8),
        borderValue=0,
    )
    if not room.any():
        return
    # The middle of what room there is, not its first corner.
    distance = cv2.distanceTransform(np.pad(room, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    deepest = np.argwhere(distance == distance.max())
    y, x = deepest[np.linalg.norm(deepest - deepest.mean(axis=0), axis=1).argmin()]
    place = left + int(x) - width // 2, top + int(y) - height // 2
    _write(picture, name, place, WHITE, outline=BLACK)


def _legend(
    width: int, labels: Sequence[int], classes: Sequence[str], palette: Sequence
) -> np.ndarray:
    """(h, width, 3): a swatch and the name of each class, in as many lines as it takes."""
    places, x, line = [], 4, 0
    for label in labels:
        length, _ = _text_size(classes[label])
        if x > 4 and x + 16 + length > width:
            x, line = 4, line + 1
        places.append((label, x, line))
        x += 16 + length + 12
    legend = np.full((LINE * (line + 1), width, 3), 255, np.uint8)
    for label, x, line in places:
        top = LINE * line + 4
        legend[top : top + 10, x : x + 10] = palette[label]
        _, height = _text_size(classes[label])
        _write(legend, classes[label], (x + 14, top + 5 - height // 2), BLACK)
    return legend


def _write(
    picture: np.ndarray,
    text: str,
    place: tuple[int, int],
    color: tuple[int, int, int],
    outline: tuple[int, int, int] | None = None,
) -> None:
    """Writes into the picture, with the text's left and top at x and y."""
    (x, y), (width, height), margin = place, _text_size(text), 2
    left, top = max(x - margin, 0), max(y - margin, 0)
    # Pillow draws on a copy, so that it is only of what is drawn on.
    part = picture[top : y + height + margin, left : x + width + margin]
    if not part.size:
        return
    copy = Image.fromarray(part)
    stroke = dict(stroke_width=2, stroke_fill=outline) if outline else {}
    line, font = _line(text), _font(text)
    x0, y0 = font.getbbox(line)[0], font.getbbox(TALL)[1]
    ImageDraw.Draw(copy).text((x - left - x0, y - top - y0), line, color, font, **stroke)
    part[:] = copy


@lru_cache(maxsize=4096)
def _text_size(text: str) -> tuple[int, int]:
    """Width and height in pixels."""
    font = _font(text)
    left, _, right, _ = font.getbbox(_line(text))
    _, top, _, bottom = font.getbbox(TALL)
    return max(1, round(right - left)), round(bottom - top)


def _line(text: str) -> str:
    return ' '.join(text.split())


@lru_cache(maxsize=4096)
def _font(text: str) -> ImageFont.FreeTypeFont:
    """Matplotlib's font, or the first one installed that has all letters where it lacks one."""
    letters = {ord(letter) for letter in text if not letter.isspace()}
    if not letters <= _letters(str(FONT)):
        # Matplotlib's own last resort has a box for every letter.
        installed = {font.fname for font in fontManager.ttflist if 'Last Resort' not in font.name}
        for path in sorted(installed):
            if letters <= _letters(path):
                return ImageFont.truetype(path, FONT_SIZE)
    return ImageFont.truetype(str(FONT), FONT_SIZE)


@lru_cache(maxsize=256)
def _letters(path: str) -> frozenset[int]:
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):  # gone since Matplotlib listed it
        return frozenset()
