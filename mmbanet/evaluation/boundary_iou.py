"""Boundary IoU of segments (Cheng et al., CVPR 2021), of all segments of an image at once.

Shapes: G true segments, P predicted segments, H x W pixels.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from mmbanet.structures.matching import (
    Segments,
    TrueSegments,
    count_overlaps,
    find_runs,
    segment_iou,
)


def boundary_width(height: int, width: int, dilation_ratio: float = 0.02) -> int:
    """Width of the boundary in pixels: this share of the image's diagonal, at least 1."""
    return max(round(dilation_ratio * math.hypot(height, width)), 1)


def is_boundary(id_map: np.ndarray, width: int) -> np.ndarray:
    """The pixels of each segment that eroding it ``width`` times by 3x3 takes away.

    Around such a pixel not all of the square of ``2 * width + 1`` pixels belongs to its segment;
    what lies outside the image belongs to none.

    Args:
        id_map: (H, W), the id of each pixel's segment, at least 0.
        width: In pixels.

    Returns:
        (H, W) bool.
    """
    ids = id_map.astype(np.float64)  # the only type of OpenCV's morphology that holds all ids
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    least = cv2.erode(ids, square, borderType=cv2.BORDER_CONSTANT, borderValue=-1)
    return least != cv2.dilate(ids, square)


def boundary_iou(
    truth: TrueSegments,
    true_map: np.ndarray,
    prediction: Segments,
    id_map: np.ndarray,
    width: int,
) -> np.ndarray:
    """IoU of the boundaries of every two segments, without predicted pixels that are void in truth.

    Args:
        truth: G segments.
        true_map: (H, W), their ids.
        prediction: P segments.
        id_map: (H, W), their ids.
        width: Of the boundaries, in pixels.

    Returns:
        (G, P) float64.
    """
    of_truth, of_prediction = is_boundary(true_map, width), is_boundary(id_map, width)

    def count(where: np.ndarray) -> np.ndarray:
        return count_overlaps(truth, prediction, find_runs(true_map, id_map, where))

    return segment_iou(
        count(of_truth & of_prediction), count(of_truth).sum(axis=1), count(of_prediction)
    )
