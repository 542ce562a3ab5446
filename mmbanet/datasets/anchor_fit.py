"""Whether a config's anchors can find the things of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmcv.image import rescale_size
from mmdet.registry import TASK_UTILS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from mmbanet.messages import counted


class AnchorFit(NamedTuple):
    """Things against anchors, in pixels of the image as the model sees it.

    Attributes:
        things: Number of things.
        unmatched: Those that no anchor matches by the RPN's ``neg_iou_thr``, even if it lay right
            upon them: to the RPN they are background but for the best anchor of each.
        smaller: Those of the unmatched that have less area than the smallest anchor.
        median_size: Square root of the things' median area.
        anchor_sizes: Square roots of the smallest and the largest anchor's area.
    """

    things: int
    unmatched: int
    smaller: int
    median_size: float
    anchor_sizes: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.anchor_sizes
        return (
            f'without a matching anchor: {self.unmatched} of {counted(self.things, "thing")} '
            f'({self.smaller} smaller than all); resized, the median thing has '
            f'{self.median_size:.0f} pixels a side, anchors have {low:.0f} to {high:.0f}'
        )


def fit_anchors(sizes: Sequence[tuple[float, float, int, int]], cfg: Config) -> AnchorFit:
    """Compares the sizes of things with a config's anchors.

    Args:
        sizes: Width and height of a thing, and of its image.
        cfg: With a ``Resize`` in the test pipeline, which says how large the model sees an image.

    Raises:
        ValueError: No thing, or no RPN or ``Resize`` in the config.
    """
    if not sizes:
        raise ValueError('no thing to compare anchors with')
    rpn, model = cfg.model.get('rpn_head') or {}, cfg.model
    if 'anchor_generator' not in rpn:
        raise ValueError('model.rpn_head.anchor_generator is not in the config')
    # MMEngine's pure Python configs have the class itself.
    steps = [(getattr(s['type'], '__name__', s['type']), s) for s in get_test_pipeline_cfg(cfg)]
    resize = [step for name, step in steps if name.endswith('Resize')]
    if not resize or 'scale' not in resize[0]:
        raise ValueError('the test pipeline of the config has no Resize with a scale')
    generator = TASK_UTILS.build(rpn['anchor_generator'])
    anchors = np.concatenate([level.numpy() for level in generator.base_anchors])
    anchors = anchors[:, 2:] - anchors[:, :2]
    things = np.array([_seen(*size, resize[0]) for size in sizes])
    shared = np.minimum(things[:, None], anchors).prod(-1)
    areas, anchor_areas = things.prod(-1), anchors.prod(-1)
    iou = (shared / (areas[:, None] + anchor_areas - shared)).max(axis=1)
    unmatched = iou < model.train_cfg.rpn.assigner.neg_iou_thr
    return AnchorFit(
        len(things),
        int(unmatched.sum()),
        int((unmatched & (areas < anchor_areas.min())).sum()),
        float(np.sqrt(np.median(areas))),
        (float(np.sqrt(anchor_areas.min())), float(np.sqrt(anchor_areas.max()))),
    )


def _seen(
    width: float, height: float, image_width: int, image_height: int, resize: dict
) -> tuple[float, float]:
    """A thing's width and height when its image has been resized."""
    new = tuple(resize['scale'])
    if resize.get('keep_ratio'):
        new = rescale_size((image_width, image_height), new)
    return width * new[0] / image_width, height * new[1] / image_height
