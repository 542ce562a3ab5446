"""Predictions as mmdet's visualizer draws them.

``DetLocalVisualizer`` looks up every label of ``pred_sem_seg`` in the palette, except the
``ignore_index`` of its metainfo. Two of its methods fail on predictions that are right: a panoptic
map that is all void, and a semantic map where the data set has no palette. Whoever draws our
predictions chooses the visualizer, in a config that need not be ours: so it is mended where it is.
"""

import functools
from collections.abc import Callable

import numpy as np
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.structures import PixelData
from torch import Tensor


def semantic_prediction(labels: Tensor, num_classes: int) -> PixelData:
    """``pred_sem_seg`` of labels (1, h, w) in 0..num_classes; the last of them is not drawn."""
    return PixelData(sem_seg=labels.long(), metainfo=dict(ignore_index=num_classes))


def _drawing_nothing_of_void(draw: Callable) -> Callable:
    @functools.wraps(draw)
    def _draw_panoptic_seg(
        self: DetLocalVisualizer,
        image: np.ndarray,
        panoptic_seg: PixelData,
        classes: list | None,
        palette: list | None,
    ) -> np.ndarray:
        if 'label_names' not in panoptic_seg and (panoptic_seg.sem_seg == len(classes)).all():
            return image
        return draw(self, image, panoptic_seg, classes, palette)

    return _draw_panoptic_seg


def _drawing_without_palette(draw: Callable) -> Callable:
    @functools.wraps(draw)
    def _draw_sem_seg(
        self: DetLocalVisualizer,
        image: np.ndarray,
        sem_seg: PixelData,
        classes: list | None,
        palette: list | str | None,
    ) -> np.ndarray:
        if classes is not None and (palette is None or isinstance(palette, str)):
            palette = get_palette(palette, len(classes))
        return draw(self, image, sem_seg, classes, palette)

    return _draw_sem_seg


DetLocalVisualizer._draw_panoptic_seg = _drawing_nothing_of_void(
    DetLocalVisualizer._draw_panoptic_seg
)
DetLocalVisualizer._draw_sem_seg = _drawing_without_palette(DetLocalVisualizer._draw_sem_seg)
