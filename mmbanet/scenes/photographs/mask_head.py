"""Masks as a mask head leaves them: coarse, blurred, noisy, and cut off by a box that is not quite.

Trained heads differ; this one is the same for whoever measures what comes after them.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

# Samples per side of a cell, whose mean is the cell's value.
SAMPLES = 8


class SimulatedMaskHead(NamedTuple):
    """A mask head in place of a trained one.

    Attributes:
        jitter: Standard deviation of each side of the box, as a share of its length.
        size: Cells along a side of the predicted mask, 28 in Mask R-CNN.
        blur: Standard deviation of a Gaussian over the cells.
        noise: Standard deviation of the noise in each cell, of masks in 0..1.
        noise_blur: Standard deviation of the Gaussian, in cells, that makes neighbours'
            noise alike.
    """

    jitter: float = 0.05
    size: int = 28
    blur: float = 0.7
    noise: float = 0.1
    noise_blur: float = 1.0

    def predict(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Looks at a mask (H, W) bool through the head; may be empty where that is small."""
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        if width == 0:
            return mask.copy()
        box = np.array([left, top, left + width, top + height])
        x1, y1, x2, y2 = box + rng.normal(0, self.jitter, 4) * [width, height, width, height]
        # Half a pixel is left of the thinnest box, however it is moved.
        x2, y2 = max(x2, x1 + 0.5), max(y2, y1 + 0.5)

        place = (np.arange(self.size * SAMPLES) + 0.5) / (self.size * SAMPLES)
        samples = _sample(mask, x1 + place * (x2 - x1) - 0.5, y1 + place * (y2 - y1) - 0.5)
        cells = samples.reshape(self.size, SAMPLES, self.size, SAMPLES).mean(axis=(1, 3))
        cells = _blur(cells, self.blur)
        noise = _blur(rng.standard_normal(cells.shape).astype(np.float32), self.noise_blur)
        # What the blur leaves of a deviation of 1.
        cells += noise * (self.noise / _blurred_deviation(self.noise_blur))

        rows, columns = np.arange(mask.shape[0]) + 0.5, np.arange(mask.shape[1]) + 0.5
        x = (columns - x1) / (x2 - x1) * self.size - 0.5
        y = (rows - y1) / (y2 - y1) * self.size - 0.5
        return _sample(cells, x, y) >= 0.5


def _sample(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(len(y), len(x)) float32, bilinearly; 0 beyond the border."""
    columns = np.broadcast_to(np.float32(x), (len(y), len(x)))
    rows = np.broadcast_to(np.float32(y)[:, None], (len(y), len(x)))
    return cv2.remap(
        np.float32(values),
        np.ascontiguousarray(columns),
        np.ascontiguousarray(rows),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )


def _blur(values: np.ndarray, deviation: float) -> np.ndarray:
    if deviation == 0:
        return values
    return cv2.GaussianBlur(values, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE)


def _blurred_deviation(deviation: float) -> float:
    """Standard deviation of white noise of deviation 1 after :func:`_blur`."""
    if deviation == 0:
        return 1.0
    impulse = np.zeros((33, 33), dtype=np.float32)
    impulse[16, 16] = 1
    return float(np.sqrt((_blur(impulse, deviation) ** 2).sum()))
