"""One picture of a panoptic map over its image: names, contours, void hatched, errors marked.

Shapes: H x W pixels; maps in mmdet's encoding, ``label + instance * 1000``, void any other label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mmbanet.structures import decode_ids

from .panoptic import colorize, find_edges

OPACITY = 0.55
# Void: stripes of this many pixels, dark and darker.
STRIPE = 6
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.4
LINE = 18  # height of the legend's lines
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
    truth, prediction = truth.ravel().astype(np.int64), prediction.ravel().astype(np.int64)
    pairs, shared = np.unique(np.stack([truth, prediction]), axis=1, return_counts=True)
    shared_of = {tuple(pair): n for pair, n in zip(pairs.T.tolist(), shared.tolist())}
    true_area, area, in_void, ignored = Counter(), Counter(), Counter(), Counter()
    for (true_id, found_id), n in shared_of.items():
        true_area[true_id] += n
        area[found_id] += n
        true_label = decode_ids(true_id)[0]
        if true_label >= num_classes:
            in_void[found_id] += n
        if true_label >= num_classes or (
            true_id in crowds and true_label == decode_ids(found_id)[0]
        ):
            ignored[found_id] += n

    real = {k for k in true_area if decode_ids(k)[0] < num_classes and k not in crowds}
    found = {k for k in area if decode_ids(k)[0] < num_classes}
    matched_true, matched_found, confused = set(), set(), []
    for (true_id, found_id), n in shared_of.items():
        if true_id in real and found_id in found:
            union = true_area[true_id] + area[found_id] - n - in_void[found_id]
            if n / union > 0.5:
                matched_true.add(true_id)
                matched_found.add(found_id)
                if decode_ids(true_id)[0] != decode_ids(found_id)[0]:
                    confused.append((true_id, found_id))
    false = [k for k in found - matched_found if ignored[k] / area[k] <= 0.5]
    return Errors(sorted(real - matched_true), sorted(false), confused)


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
    void = decode_ids(panoptic)[0] >= len(classes)
    y, x = np.indices(panoptic.shape, sparse=True)
    stripes = np.where(((x + y) // STRIPE) % 2 == 0, 40, 90).astype(np.uint8)
    colors = colorize(panoptic, palette)
    colors[void] = stripes[void][:, None]
    picture = np.round((1 - OPACITY) * image + OPACITY * colors).astype(np.uint8)
    picture[find_edges(panoptic)] = 255
    for segment in np.unique(panoptic[~void]).tolist():
        mask = (panoptic == segment).astype(np.uint8)
        if marks and segment in marks:
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, marks[segment], 2)
        _write_name(picture, mask, classes[decode_ids(segment)[0]])
    if legend:
        labels = np.unique(decode_ids(panoptic[~void])[0]).tolist()
        picture = np.concatenate([picture, _legend(picture.shape[1], labels, classes, palette)])
    return picture


def _write_name(picture: np.ndarray, mask: np.ndarray, name: str) -> None:
    """Where the segment is widest, if it has the room."""
    (width, height), _ = cv2.getTextSize(name, FONT, FONT_SCALE, 1)
    room = cv2.erode(mask, np.ones((height + 4, width + 4), np.uint8), borderValue=0)
    if not room.any():
        return
    # The middle of what room there is, not its first corner.
    distance = cv2.distanceTransform(np.pad(room, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    place = (int(x) - width // 2, int(y) + height // 2)
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(picture, name, place, FONT, FONT_SCALE, color, thickness, cv2.LINE_AA)


def _legend(
    width: int, labels: Sequence[int], classes: Sequence[str], palette: Sequence
) -> np.ndarray:
    """(h, width, 3): a swatch and the name of each class, in as many lines as it takes."""
    places, x, line = [], 4, 0
    for label in labels:
        (length, _), _ = cv2.getTextSize(classes[label], FONT, FONT_SCALE, 1)
        if x > 4 and x + 16 + length > width:
            x, line = 4, line + 1
        places.append((label, x, line))
        x += 16 + length + 12
    legend = np.full((LINE * (line + 1), width, 3), 255, np.uint8)
    for label, x, line in places:
        top = LINE * line + 4
        legend[top : top + 10, x : x + 10] = palette[label]
        place = (x + 14, top + 9)
        cv2.putText(legend, classes[label], place, FONT, FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return legend
