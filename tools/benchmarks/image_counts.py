"""PQ and mIoU of any choice of images, from what the metric counted in each, for bootstraps.

Shapes: N images, C classes, R choices of images.
"""

from __future__ import annotations

import numpy as np
from mmengine.config import Config

from mmbanet.evaluation import PanopticMetric

WIDTHS = dict(PQ=4, IoU=2)
RESAMPLES = 2000


def panoptic_metric(cfg: Config, dataset_meta: dict, **settings) -> PanopticMetric:
    """The metric of PQ of a config's test evaluators, with other settings."""
    evaluators = (
        cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    )
    given = next(dict(item) for item in evaluators if item['type'] == 'mmbanet.PanopticMetric')
    given.pop('type')
    metric = PanopticMetric(**given | settings)
    metric.dataset_meta = dataset_meta
    return metric


def counts_of(metric: PanopticMetric, name: str) -> np.ndarray:
    """(N, C, 4) of ``'PQ'``, see :func:`count_matches`, or (N, C, 2) of ``'IoU'``."""
    counts = np.zeros((len(metric.results), metric.num_classes, WIDTHS[name]))
    for of_image, result in zip(counts, metric.results):
        labels, values = result[name]
        of_image[labels] = values
    return counts


def choices(images: int, seed: int = 0) -> np.ndarray:
    """(1 + RESAMPLES, N): how often each image counts: once, then as drawn with replacement."""
    drawn = np.random.default_rng(seed).multinomial(
        images, np.full(images, 1 / images), size=RESAMPLES
    )
    return np.concatenate([np.ones((1, images), dtype=drawn.dtype), drawn])


def quality(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R,): PQ in percent over the classes of the counts (N, C, 4)."""
    iou, matched, false, missed = _total(times, counts)
    return _mean_share(iou, matched + 0.5 * (false + missed))


def mean_iou(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(R,): mIoU in percent over the classes of the counts (N, C, 2)."""
    return _mean_share(*_total(times, counts))


def with_interval(differences: np.ndarray) -> dict[str, float]:
    """The difference of all images, and its 95% interval, of (1 + RESAMPLES,)."""
    low, high = np.percentile(differences[1:], [2.5, 97.5])
    return dict(difference=float(differences[0]), low=float(low), high=float(high))


def _total(times: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(4 or 2, R, C)."""
    return np.moveaxis(np.tensordot(times, counts, axes=1), -1, 0)


def _mean_share(part: np.ndarray, of: np.ndarray) -> np.ndarray:
    # Classes that are neither annotated nor predicted do not count.
    return 100 * np.nanmean(part / np.where(of > 0, of, np.nan), axis=1)
