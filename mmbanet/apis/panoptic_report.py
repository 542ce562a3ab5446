"""Gathers what a report says of judged images."""

from __future__ import annotations

import heapq
import math

import numpy as np

from mmbanet.datasets.panoptic_files import segment_info
from mmbanet.datasets.rle import decode_rle
from mmbanet.evaluation.panoptic_breakdown import PanopticBreakdown, box_overlap
from mmbanet.evaluation.panoptic_truth import PanopticTruth
from mmbanet.structures.matching import NO_LABEL

from .labelled_images import LabelledImage


class PanopticReport:
    """The segments of all images, and the images with the least and the largest PQ.

    Args:
        truth: The annotations, with the classes of the predictions.
        examples: How many images to keep of either kind.
    """

    def __init__(self, truth: PanopticTruth, examples: int) -> None:
        self.truth = truth
        self.examples = examples
        self.breakdown = PanopticBreakdown(truth.classes, truth.is_thing)
        self.images: list[dict] = []
        self._worst: list[tuple[float, int, LabelledImage]] = []
        self._best: list[tuple[float, int, LabelledImage]] = []

    def add(self, image: LabelledImage) -> None:
        """Adds an image that is judged."""
        judgement = image.judgement
        comparison = judgement.comparison
        truth, found = comparison.truth, comparison.prediction
        true_labels = np.where(truth.is_countable, truth.labels, NO_LABEL)
        score_of = {segment['id']: segment['score'] for segment in image.segments}
        scores = [score_of.get(i) for i in found.ids.tolist()]
        self.breakdown.add(
            comparison,
            judgement.matches,
            judgement.counts,
            self._box_overlaps(judgement.ids, truth.ids, true_labels),
            self._box_overlaps(image.ids, found.ids, found.labels),
            np.array([math.nan if score is None else score for score in scores], dtype=float),
            self._hidden(image),
        )
        number, pq = len(self.images), judgement.pq
        self.images.append(dict(name=image.name, PQ=None if math.isnan(pq) else 100 * pq))
        if not math.isnan(pq):
            # Of equal ones the first.
            _keep(self._worst, (-pq, -number, image), self.examples)
            _keep(self._best, (pq, -number, image), self.examples)

    def worst_and_best(self) -> tuple[list[LabelledImage], list[LabelledImage]]:
        """Of the least and of the largest PQ, the worst and the best first; no image in both."""
        worst = sorted(self._worst, reverse=True)
        taken = {number for _, number, _ in worst}
        best = [item for item in sorted(self._best, reverse=True) if item[1] not in taken]
        return [image for *_, image in worst], [image for *_, image in best]

    def numbers(self) -> dict:
        """Of :class:`PanopticBreakdown`, and ``images``: ``name`` and ``PQ`` of each."""
        return dict(self.breakdown.numbers(), images=self.images)

    def _box_overlaps(self, id_map: np.ndarray, ids: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Of every segment that is a thing, see :func:`box_overlap`; nan of others."""
        overlaps = np.full(len(ids), math.nan)
        things = np.isin(labels, self.truth.thing_labels).nonzero()[0]
        masks = [(row, id_map == ids[row]) for row in things]
        boxes = {row: segment_info(0, 0, mask)['bbox'] for row, mask in masks if mask.any()}
        overlaps[list(boxes)] = box_overlap(np.reshape(list(boxes.values()), (-1, 4)))
        return overlaps

    def _hidden(self, image: LabelledImage) -> np.ndarray:
        """The hidden share of every true thing whose full mask is annotated (``amodal_rle``)."""
        judgement = image.judgement
        truth = judgement.comparison.truth
        hidden = np.full(len(truth.ids), math.nan)
        full = {
            segment['id']: decode_rle(segment['amodal_rle'], judgement.ids.shape).sum()
            for segment in self.truth.annotations.annotations[judgement.image_id]['segments_info']
            if 'amodal_rle' in segment
        }
        is_thing = np.isin(truth.labels, self.truth.thing_labels)
        for row in (is_thing & truth.is_countable).nonzero()[0]:
            if full.get(truth.ids[row]):
                hidden[row] = max(0.0, 1 - truth.areas[row] / full[truth.ids[row]])
        return hidden


def _keep(heap: list, item: tuple, most: int) -> None:
    """Keeps the largest."""
    if len(heap) < most:
        heapq.heappush(heap, item)
    elif most:
        heapq.heappushpop(heap, item)
