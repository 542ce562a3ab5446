"""A panoptic map of an image against the truth, segment by segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmbanet.evaluation.panoptic_quality import average_quality, count_matches
from mmbanet.evaluation.panoptic_truth import Comparison, PanopticTruth
from mmbanet.structures.matching import NO_LABEL, Matches, Segments, find_runs, match_segments


class Judgement(NamedTuple):
    """A map against the truth.

    Attributes:
        image_id: Of the image in the truth.
        pq: 0..1, of this image alone; nan where there is nothing.
        ids: (H, W), the truth.
        comparison: The true and the predicted segments.
        matches: Which of them match.
        counts: (C, 4) of :func:`~mmbanet.evaluation.panoptic_quality.count_matches`.
    """

    image_id: int
    pq: float
    ids: np.ndarray
    comparison: Comparison
    matches: Matches
    counts: np.ndarray

    @property
    def labels(self) -> dict[int, int]:
        """Class of each true segment by its id."""
        truth = self.comparison.truth
        return dict(zip(truth.ids[1:-1].tolist(), truth.labels[1:-1].tolist()))

    @property
    def missed(self) -> list[int]:
        """True segments without a match."""
        return self.comparison.truth.ids[self.matches.is_missed].tolist()

    @property
    def false(self) -> list[int]:
        """Predicted segments without a match."""
        return self.comparison.prediction.ids[self.matches.is_false].tolist()

    @property
    def confused(self) -> list[tuple[int, int]]:
        """True and predicted segment with an IoU above 0.5 of different classes.

        These are missed and false as well.
        """
        true_ids, ids = self.comparison.truth.ids, self.comparison.prediction.ids
        return [(int(true_ids[i]), int(ids[j])) for i, j in np.argwhere(self.matches.is_confused)]


def judge(
    truth: PanopticTruth, image_id: int, name: str, ids: np.ndarray, segments: Sequence[dict]
) -> Judgement:
    """Compares an image's map with the truth.

    Args:
        truth: Of the same classes.
        image_id: Of an annotated image.
        name: Of the image, for errors.
        ids: (H, W), the map.
        segments: Its segments, ``id`` and ``label``; void has none.

    Raises:
        FileNotFoundError: The PNG of the truth is missing.
        ValueError: It is not right, or the map has another size.
    """
    true_ids, _ = truth.load(image_id)
    if true_ids.shape != ids.shape:
        raise ValueError(f'{name}: predicted at {ids.shape}, annotated at {true_ids.shape}')
    runs = find_runs(true_ids, ids)
    label_of = {segment['id']: segment['label'] for segment in segments}
    found = np.unique(runs.ids)
    labels = np.array([label_of.get(i, NO_LABEL) for i in found.tolist()], dtype=np.int64)
    comparison = truth.compare(image_id, true_ids, Segments(found, labels), runs)
    num_classes = len(truth.classes)
    counts = count_matches(*comparison, num_classes)
    average, _ = average_quality(counts, np.ones(num_classes, dtype=bool))
    return Judgement(
        image_id, average['pq'], true_ids, comparison, match_segments(*comparison), counts
    )
