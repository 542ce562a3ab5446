"""Cutting a thing out of its photograph: a soft edge without the colour of what was behind it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from mmbanet.datasets.soft_edges import soften, to_bytes

from .candidates import Candidate
from .source import VOID, Photograph

#: Pixels around the box that are looked at.
MARGIN = 6

#: Share of the outline that may lie on another thing, on void, or on thin stuff, each of which may
#: have cut the thing.
MAX_TOUCHING = 0.1
#: Area / area of the convex hull.
MIN_SOLIDITY = 0.6
#: Share of the thing that must remain one component when its thin parts are taken away.
MIN_MAIN_PART = 0.9


class Cutout(NamedTuple):
    """A thing without its photograph; h x w pixels with a margin around it.

    Attributes:
        color: (h, w, 3) uint8 RGB, continued beyond the thing's edge.
        alpha: (h, w) uint8, 255 where the thing covers a pixel.
        label: Position of its category.
        base: Its lower end, as a share of the photograph's height.
        frame_height: The photograph's height in pixels.
        support: Label of what is below its base; 255 is void.
        support_color: (3,) float32, the mean colour there.
        frame_color: (3,) float32, the mean colour of the photograph.
        noise: Standard deviation of the photograph's noise.
    """

    color: np.ndarray
    alpha: np.ndarray
    label: int
    base: float
    frame_height: int
    support: int
    support_color: np.ndarray
    frame_color: np.ndarray
    noise: float


def cut_out(photograph: Photograph, candidate: Candidate, is_thing: np.ndarray) -> Cutout | None:
    """Cuts a thing out, or returns None for one that may be several, or only a part.

    Args:
        photograph: Of the candidate.
        candidate: The thing.
        is_thing: (256,) bool, by label; void counts as a thing.
    """
    whole = photograph.ids == candidate.segment_id
    height, width = whole.shape
    x, y, w, h = cv2.boundingRect(whole.view(np.uint8))
    if w == 0:
        return None
    window = (
        slice(max(y - MARGIN, 0), min(y + h + MARGIN, height)),
        slice(max(x - MARGIN, 0), min(x + w + MARGIN, width)),
    )
    mask = np.ascontiguousarray(whole[window])
    labels = photograph.labels(window)
    if not _is_whole(mask, labels, is_thing):
        return None
    color, alpha = soften(photograph.image[window], mask)
    support, support_color = support_below(photograph, y + h, x, x + w)
    return Cutout(
        to_bytes(color),
        to_bytes(255 * alpha),
        candidate.label,
        (y + h) / height,
        height,
        support,
        support_color,
        photograph.image[::4, ::4].mean(axis=(0, 1), dtype=np.float32),
        noise_level(photograph.image[window]),
    )


def support_below(
    photograph: Photograph, base: int, left: int, right: int
) -> tuple[int, np.ndarray]:
    """What lies below a thing: the most frequent label of a strip, and its mean colour there."""
    height, width = photograph.ids.shape
    strip = (
        slice(min(base + 1, height - 1), min(base + 5, height)),
        slice(max(left, 0), max(min(right, width), 1)),
    )
    labels, colors = photograph.labels(strip).ravel(), photograph.image[strip].reshape(-1, 3)
    if len(labels) == 0:
        return VOID, np.full(3, 128, dtype=np.float32)
    label = int(np.bincount(labels).argmax())
    return label, colors[labels == label].mean(axis=0, dtype=np.float32)


def noise_level(image: np.ndarray) -> float:
    """Standard deviation of an image's noise, from its flattest parts.

    A Laplacian that leaves planes alone (Immerkaer, 1996), of which the lower quartile is noise
    where a picture has any flat part.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
    response = np.abs(cv2.filter2D(image[..., 1].astype(np.float32), -1, kernel))
    # The lower quartile of |N(0, 1)| is 0.319; the kernel has a norm of 6.
    return float(np.quantile(response, 0.25) / 0.319 / 6)


def _is_whole(mask: np.ndarray, labels: np.ndarray, is_thing: np.ndarray) -> bool:
    """Whether a mask looks like one thing, all of it; see the constants above."""
    opened = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    area = int(mask.sum())
    if len(stats) < 2 or stats[1:, cv2.CC_STAT_AREA].max() < MIN_MAIN_PART * opened.sum():
        return False
    outline, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(np.concatenate(outline))
    if area < MIN_SOLIDITY * max(cv2.contourArea(hull), 1):
        return False
    ring = cv2.dilate(mask.view(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~mask
    return is_thing[labels[ring]].mean() <= MAX_TOUCHING
