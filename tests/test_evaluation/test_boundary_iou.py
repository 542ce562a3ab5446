"""Boundary PQ against the definition, segment by segment and pixel by pixel."""

import cv2
import numpy as np
import pytest
from mmdet.evaluation.functional import INSTANCE_OFFSET
from panopticapi.evaluation import PQStat

from mmbanet.evaluation.boundary_iou import boundary_width, is_boundary

from .panoptic_sets import (
    CATEGORIES,
    NUM_CLASSES,
    evaluate,
    panopticapi_stat,
    random_prediction,
    random_truth,
    sample,
    scores_of,
    write_truth,
)


def boundary(mask, width):
    """Equation (1) of the paper with square distances: pixels at most ``width`` from the outside.

    What lies beyond the image is outside.
    """
    padded = np.pad(mask, width)
    result = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        result[y, x] = not padded[y : y + 2 * width + 1, x : x + 2 * width + 1].all()
    return result


def test_width():
    assert boundary_width(480, 640) == 16
    assert boundary_width(10, 10) == 1
    assert boundary_width(100, 100, 0.05) == 7


@pytest.mark.parametrize('width', [1, 2, 5])
def test_boundaries_of_all_segments_at_once(width):
    rng = np.random.default_rng(width)
    for _ in range(20):
        ids, _ = random_truth(rng, (17, 23))
        _, index = np.unique(ids, return_inverse=True)
        index = index.reshape(ids.shape)
        found = is_boundary(ids, width)
        kernel = np.ones((3, 3), dtype=np.uint8)
        for i in range(index.max() + 1):
            mask = index == i
            assert np.array_equal(found & mask, boundary(mask, width))
            # as the authors' code does it
            padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
            eroded = cv2.erode(padded, kernel, iterations=width)[1:-1, 1:-1]
            assert np.array_equal(found & mask, mask & (eroded == 0))


def iou_of(first, second, void, area=None):
    shared = (first & second).sum()
    union = (first.sum() if area is None else area) + (second & ~void).sum() - shared
    return shared / union if union > 0 else 0.0


def plain_stat(truths, encoded, width):
    """Panoptic quality by loops over masks; with a width, of the smaller one of both IoUs."""
    label_of = {category['id']: label for label, category in enumerate(CATEGORIES)}
    stat = PQStat()
    for image_id, (ids, segments) in truths.items():
        void, predicted = ids == 0, {}
        for code in np.unique(encoded[image_id]):
            if code % INSTANCE_OFFSET < NUM_CLASSES:
                predicted[code] = encoded[image_id] == code
        matched, crowds = set(), {}
        for segment in segments:
            mask, category = ids == segment['id'], segment['category_id']
            if segment['iscrowd']:
                crowds[category] = mask
                continue
            missed = True
            for code, other in predicted.items():
                if code % INSTANCE_OFFSET != label_of[category]:
                    continue
                iou = iou_of(mask, other, void, segment['area'])
                if width and iou > 0:
                    iou = min(iou, iou_of(boundary(mask, width), boundary(other, width), void))
                if iou > 0.5:
                    missed = False
                    matched.add(code)
                    stat[category].tp += 1
                    stat[category].iou += iou
            stat[category].fn += missed
        for code, other in predicted.items():
            category = CATEGORIES[code % INSTANCE_OFFSET]['id']
            ignored = void | crowds.get(category, void)
            stat[category].fp += code not in matched and (other & ignored).sum() <= other.sum() / 2
    return stat


def test_metric_equals_the_definition(tmp_path):
    rng = np.random.default_rng(0)
    size, ratio = (20, 26), 0.06
    truths = {i: random_truth(rng, size) for i in range(60)}
    encoded = {i: random_prediction(rng, *truth) for i, truth in truths.items()}
    paths = write_truth(tmp_path, truths)
    samples = [sample(i, pan) for i, pan in encoded.items()]
    scores = evaluate(paths, samples, boundary=True, boundary_dilation_ratio=ratio)

    # The loops are right about plain PQ.
    plain = scores_of(plain_stat(truths, encoded, width=None))
    expected = scores_of(panopticapi_stat(tmp_path, truths, encoded))
    assert len(expected) == 9
    assert plain == pytest.approx(expected, abs=1e-10)
    assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-10)

    expected = scores_of(plain_stat(truths, encoded, boundary_width(*size, ratio)))
    assert {key: scores[f'B{key}'] for key in expected} == pytest.approx(expected, abs=1e-10)
    assert scores['BPQ'] < scores['PQ'] - 3
    other = evaluate(paths, samples, boundary=True, boundary_dilation_ratio=0.03)
    assert scores['BPQ'] - other['BPQ'] > 1  # a control: another width is seen
    assert boundary_width(*size, ratio) == 2
