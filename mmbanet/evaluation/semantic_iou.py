"""IoU of semantic label maps with panoptic annotations, class by class."""

from __future__ import annotations

import numpy as np

from mmbanet.structures.matching import Runs, Segments, TrueSegments, count_overlaps


def count_class_overlaps(truth: TrueSegments, runs: Runs, num_classes: int) -> np.ndarray:
    """Pixels of each class over all labelled pixels: not void, not unlisted, not crowd.

    Args:
        truth: The annotation.
        runs: Of the annotation and of predicted classes in 0..C; C is none of them.
        num_classes: C.

    Returns:
        (C, 2) float64: intersection and union of annotated and predicted pixels.
    """
    classes = np.arange(num_classes + 1)
    overlaps = count_overlaps(truth, Segments(classes, classes), runs)
    confusion = np.zeros((num_classes, num_classes + 1))
    np.add.at(confusion, truth.labels[truth.is_countable], overlaps[truth.is_countable])
    intersection = confusion.diagonal()
    union = confusion.sum(axis=1) + confusion.sum(axis=0)[:num_classes] - intersection
    return np.stack([intersection, union], axis=1)


def mean_iou(counts: np.ndarray, chosen: np.ndarray) -> float:
    """Mean IoU of the chosen classes that were annotated or predicted, in 0..1; nan without any.

    Args:
        counts: (C, 2), see :func:`count_class_overlaps`, summed over images.
        chosen: (C,) bool.
    """
    intersection, union = counts[chosen & (counts[:, 1] > 0)].T
    return float((intersection / union).mean()) if len(union) else float('nan')
