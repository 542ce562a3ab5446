"""Laying a cut-out into a frame so that it looks photographed with it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from .cutout import Cutout

#: Alpha from which a pixel belongs to the thing.
OWN = 0.5
#: How much of a difference in light is made up for, as a power; bounds of the factor, and of that
#: of each channel beyond it.
MATCHED = 0.85
GAINS = (0.5, 1.6)
MAX_TINT = 1.08
#: How dark the shadow is where a thing stands, and the share of its height that is its foot.
SHADOW = 0.7
FOOT = 0.2


class Layer(NamedTuple):
    """A cut-out at its place.

    Attributes:
        color: (h, w, 3) float32 RGB, before it is matched to the frame.
        alpha: (h, w) float32.
        top: Row of its first pixel in the frame; may lie outside.
        left: Likewise its column.
        label: Position of its category.
        depth: The larger, the nearer.
        stands: On the ground.
        cutout: Where it comes from.
        scale: Its size over that in its photograph.
        support_color: (3,) of what is below it in the frame, if that is
            the same stuff as in its photograph.
    """

    color: np.ndarray
    alpha: np.ndarray
    top: int
    left: int
    label: int
    depth: float
    stands: bool
    cutout: Cutout
    scale: float
    support_color: np.ndarray | None

    def window(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where it lies in a frame, and which part of it that is."""
        h, w = self.alpha.shape
        y0, y1 = max(self.top, 0), min(self.top + h, height)
        x0, x1 = max(self.left, 0), min(self.left + w, width)
        y1, x1 = max(y0, y1), max(x0, x1)
        inner = slice(y0 - self.top, y1 - self.top), slice(x0 - self.left, x1 - self.left)
        return (slice(y0, y1), slice(x0, x1)), inner

    def mask(self, height: int, width: int) -> np.ndarray:
        """(H, W) bool: its full mask within a frame."""
        mask = np.zeros((height, width), dtype=bool)
        outer, inner = self.window(height, width)
        mask[outer] = self.alpha[inner] >= OWN
        return mask


def resize_cutout(cutout: Cutout, scale: float, flip: bool) -> tuple[np.ndarray, np.ndarray]:
    """Colour (h, w, 3) and alpha (h, w) of a cut-out at another size, mirrored if asked for."""
    h, w = cutout.alpha.shape
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    color = cv2.resize(cutout.color, size, interpolation=how).astype(np.float32)
    alpha = cv2.resize(cutout.alpha, size, interpolation=how).astype(np.float32) / 255
    return (color[:, ::-1], alpha[:, ::-1]) if flip else (color, alpha)


def paste(rng: np.random.Generator, image: np.ndarray, layer: Layer, noise: float) -> None:
    """Lays a cut-out over an image.

    Args:
        rng: What is random comes from it.
        image: (H, W, 3) float32 RGB 0..255, changed in place.
        layer: The cut-out at its place.
        noise: Standard deviation of the frame's noise.
    """
    outer, inner = layer.window(*image.shape[:2])
    alpha = layer.alpha[inner][..., None]
    if alpha.size == 0:
        return
    if layer.stands:
        image[outer] *= 1 - SHADOW * contact_shadow(layer.alpha)[inner][..., None]
    gain = match_gain(light_ratio(layer, image))
    color = layer.color[inner] * gain
    # Scaling down averages noise away, brightening raises it.
    own = layer.cutout.noise * float(gain.mean()) * min(layer.scale, 1)
    missing = max(noise**2 - own**2, 0) ** 0.5
    color += missing * rng.standard_normal(color.shape, dtype=np.float32)
    image[outer] += alpha * (color - image[outer])


def light_ratio(layer: Layer, image: np.ndarray) -> np.ndarray:
    """(3,) float32: how much lighter it is in the frame than in the cut-out's photograph.

    Told by what both stand on, where that is the same stuff, else by all of both images.
    """
    if layer.support_color is not None:
        return (layer.support_color + 8) / (layer.cutout.support_color + 8)
    around = image[::4, ::4].mean(axis=(0, 1), dtype=np.float32)
    return (around + 8) / (layer.cutout.frame_color + 8)


def match_gain(ratio: np.ndarray) -> np.ndarray:
    """(3,) float32: the factors that bring a cut-out into a light of this ratio, within limits."""
    brightness = float(ratio.mean())
    gain = np.clip(brightness**MATCHED, *GAINS)
    tint = np.clip((ratio / brightness) ** MATCHED, 1 / MAX_TINT, MAX_TINT)
    return (gain * tint).astype(np.float32)


def contact_shadow(alpha: np.ndarray) -> np.ndarray:
    """(h, w) float32 0..1: how much of the light a thing takes from the ground at its foot.

    The ground is dark between the outermost points of the foot, as under a car, and a little below.
    """
    h, w = alpha.shape
    own = alpha >= OWN
    own[: int(h * (1 - FOOT))] = False
    # Whether there is a point of the foot to the left, and to the right.
    left = np.maximum.accumulate(own, axis=1)
    right = np.maximum.accumulate(own[:, ::-1], axis=1)[:, ::-1]
    down = max(round(0.015 * h), 1)
    foot = np.zeros_like(alpha)
    foot[down:] = (left & right)[:-down]
    return cv2.GaussianBlur(foot, (0, 0), 0.02 * w + 0.8, sigmaY=0.015 * h + 0.8)
