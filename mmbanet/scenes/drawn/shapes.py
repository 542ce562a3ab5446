"""Outlines of the things: polygons in the unit square, and the pose that puts them on the image.

A part is a polygon with one of the thing's colours and a shade, which scales its brightness:
jacket, trousers and skin of a figure, body, stripe and panes of a bus.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

#: Fixed-point bits of ``cv2.fillPoly`` coordinates: outlines move by 1/16 pixel.
_SUBPIXEL_BITS = 4


class Part(NamedTuple):
    """One polygon of a thing; later parts cover earlier ones."""

    polygon: np.ndarray  # (N, 2) x, y in the unit square, y down
    shade: float
    tone: int = 0  # which of the thing's colours


@dataclass(frozen=True)
class Pose:
    """Where the unit square lies on the image, in pixels; ``angle`` in radians about the centre."""

    cx: float
    cy: float
    w: float
    h: float
    angle: float = 0.0
    flip: bool = False

    @property
    def base(self) -> float:
        """Y of the lower edge, unrotated."""
        return self.cy + self.h / 2

    @property
    def box(self) -> np.ndarray:
        """(x1, y1, x2, y2) of the unrotated square."""
        half = np.array([self.w, self.h]) / 2
        centre = np.array([self.cx, self.cy])
        return np.concatenate([centre - half, centre + half])

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Unit square (N, 2) to image pixels (N, 2)."""
        local = (points - 0.5) * [-self.w if self.flip else self.w, self.h]
        c, s = np.cos(self.angle), np.sin(self.angle)
        return local @ np.array([[c, s], [-s, c]]) + [self.cx, self.cy]

    def to_unit(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image pixels to the unit square, the inverse of :meth:`to_pixels`."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        dx, dy = x - self.cx, y - self.cy
        u = (c * dx + s * dy) / (-self.w if self.flip else self.w)
        v = (c * dy - s * dx) / self.h
        return u + 0.5, v + 0.5


def draw_parts(
    parts: tuple[Part, ...], pose: Pose, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasterises a thing: coverage in 0..1, shade and tone of each pixel, all (size, size)."""
    coverage = np.zeros((size, size), np.uint8)
    shade = np.ones((size, size), np.float32)
    tone = np.zeros((size, size), np.uint8)
    for part in parts:
        points = pose.to_pixels(part.polygon) * (1 << _SUBPIXEL_BITS)
        points = [np.rint(points).astype(np.int32)]
        cv2.fillPoly(coverage, points, 255, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.fillPoly(shade, points, part.shade, cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.fillPoly(tone, points, part.tone, cv2.LINE_8, _SUBPIXEL_BITS)
    return coverage.astype(np.float32) / 255, shade, tone


def _box(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])


def _ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([cx + rx * np.cos(t), cy + ry * np.sin(t)], axis=1)


def _figure(rng: np.random.Generator) -> tuple[Part, ...]:
    stance = rng.uniform(0.0, 0.06)
    left = [[0.22 - stance, 1], [0.26, 0.6], [0.5, 0.6], [0.44 - stance, 1]]
    right = [[0.56 + stance, 1], [0.5, 0.6], [0.74, 0.6], [0.78 + stance, 1]]
    torso = [[0.32, 0.21], [0.68, 0.21], [0.9, 0.27], [1, 0.56], [0.86, 0.6], [0.76, 0.68]]
    torso += [[0.24, 0.68], [0.14, 0.6], [0, 0.56], [0.1, 0.27]]
    return (
        Part(np.array(left), 0.85, 1),
        Part(np.array(right), 0.85, 1),
        Part(np.array(torso), 1.0),
        Part(_ellipse(0.5, 0.12, 0.22, 0.12), 1.0, 2),
    )


def _bus(rng: np.random.Generator) -> tuple[Part, ...]:
    body = [[0.04, 0.0], [0.9, 0.0], [0.98, 0.08], [1, 0.5], [1, 0.86], [0, 0.86], [0, 0.06]]
    n = int(rng.integers(4, 6))
    edges = np.linspace(0.05, 0.95, n + 1)
    panes = [_box(a + 0.02, 0.12, b - 0.02, 0.42) for a, b in pairwise(edges)]
    wheels = [_ellipse(x, 0.87, 0.09, 0.13) for x in (0.22, 0.78)]
    return (
        Part(np.array(body), 1.0),
        *(Part(pane, 1.0, 2) for pane in panes),
        Part(_box(0, 0.6, 1, 0.73), 1.0, 1),
        *(Part(wheel, 0.5, 2) for wheel in wheels),
    )


def _boat(rng: np.random.Generator) -> tuple[Part, ...]:
    peak = rng.uniform(0.4, 0.55)
    hull = [[0, 0.7], [1, 0.7], [0.84, 0.94], [0.76, 1], [0.22, 1], [0.14, 0.94]]
    return (
        Part(np.array([[peak + 0.02, 0], [0.94, 0.64], [peak + 0.02, 0.64]]), 1.1),
        Part(np.array([[peak - 0.04, 0.08], [peak - 0.04, 0.64], [0.08, 0.64]]), 0.95, 1),
        Part(_box(peak - 0.04, 0, peak + 0.02, 0.72), 0.6, 2),
        Part(np.array(hull), 0.9, 2),
    )


def _boulder(rng: np.random.Generator) -> tuple[Part, ...]:
    t = np.linspace(0, 2 * np.pi, 13, endpoint=False)
    radius = rng.uniform(0.8, 1.0, 13)
    rim = np.stack([0.5 + 0.5 * radius * np.cos(t), 0.55 + 0.5 * radius * np.sin(t)], axis=1)
    # The foot is flat: a boulder lies, it does not roll.
    rim[:, 1] = np.minimum(rim[:, 1], 0.94)
    return (Part(rim, 1.0),)


def _kite(rng: np.random.Generator) -> tuple[Part, ...]:
    waist = rng.uniform(0.3, 0.42)
    return (Part(np.array([[0.5, 0], [1, waist], [0.5, 1], [0, waist]]), 1.0),)


def _tie(rng: np.random.Generator) -> tuple[Part, ...]:
    knot = [[0.1, 0], [0.9, 0], [0.72, 0.2], [0.28, 0.2]]
    blade = [[0.3, 0.17], [0.7, 0.17], [1, 0.8], [0.5, 1], [0, 0.8]]
    return Part(np.array(blade), 1.0), Part(np.array(knot), 0.75, 1)


def _sign(rng: np.random.Generator) -> tuple[Part, ...]:
    return Part(_box(0, 0, 1, 1), 1.0, 1), Part(_box(0.12, 0.12, 0.88, 0.88), 1.0)


def _ball(rng: np.random.Generator) -> tuple[Part, ...]:
    return (Part(_ellipse(0.5, 0.5, 0.5, 0.5), 1.0),)


#: name -> function of a random generator that draws one outline.
OUTLINES = {
    'figure': _figure,
    'bus': _bus,
    'boat': _boat,
    'boulder': _boulder,
    'kite': _kite,
    'tie': _tie,
    'sign': _sign,
    'ball': _ball,
}
