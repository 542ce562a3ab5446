"""Soft edges of cut-outs, without the colour of what was behind them."""

from __future__ import annotations

import cv2
import numpy as np

#: The edge of the alpha lies this far inside the annotated one, whose pixels are mixed.
INSET = 0.7
#: Pixels deeper than this inside the annotated edge have the thing's own colour.
CORE = 2.2
#: Standard deviation of the lens's blur in pixels, which the alpha gets, too.
BLUR = 0.55


def soften(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a thing's own colours are, and how much of each pixel it covers.

    Args:
        image: (h, w, 3) uint8.
        mask: (h, w) bool, with a margin of some pixels around the thing where there is one.

    Returns:
        Colours (h, w, 3) float32, continued beyond the edge, and alpha (h, w) float32, 0..1.
    """
    image = image.astype(np.float32)
    depth = signed_distance(mask)
    # In thin parts, such as legs, the core is what lies deepest.
    core = np.minimum(CORE, np.maximum(0.75 * half_thickness(depth), INSET))
    color = continue_colors(image, depth >= core)
    # The core keeps every detail; between core and edge the estimate takes over.
    weight = np.clip((depth - 0.4 * core) / (0.6 * core), 0, 1)[..., None]
    color += weight * (image - color)
    return color, soft_alpha(depth)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Values rounded to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """(h, w) float32: distance to the smoothed edge of a mask (h, w) bool, positive inside."""
    inside = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 5)
    outside = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 5)
    # A pixel at the edge is half a pixel away from it. The blur takes off the teeth of labels that
    # were drawn or scaled without interpolation.
    return cv2.GaussianBlur(inside - outside + (0.5 - mask), (0, 0), 1.0)


def half_thickness(depth: np.ndarray) -> np.ndarray:
    """(h, w) float32: the largest depth within three pixels."""
    return cv2.dilate(depth, np.ones((7, 7), np.uint8))


def soft_alpha(depth: np.ndarray) -> np.ndarray:
    """(h, w) float32 0..1: how much of each pixel the thing covers, as a camera sees it."""
    # Thin parts would vanish.
    inset = np.clip(0.5 * half_thickness(depth) - 0.5, 0, INSET)
    coverage = np.clip(depth - inset + 0.5, 0, 1)
    return cv2.GaussianBlur(coverage, (0, 0), BLUR)


def continue_colors(image: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Colours of a core, continued beyond it by weighted means of the nearest ones.

    Args:
        image: (h, w, 3) float32.
        core: (h, w) bool; where there is none within 8 pixels, the image's own colours stay.
    """
    weight = core.astype(np.float32)
    masked = image * weight[..., None]
    color, known = image.copy(), np.zeros(core.shape, dtype=bool)
    for sigma in (1.0, 2.0, 4.0):
        total = cv2.GaussianBlur(weight, (0, 0), sigma)
        new = ~known & (total > 0.02)
        mean = cv2.GaussianBlur(masked, (0, 0), sigma)
        color[new] = mean[new] / total[new][:, None]
        known |= new
    return color
