"""What a report counts, against the metric, against loops over pixels, and by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from mmbanet.apis.judgement import judge
from mmbanet.apis.labelled_images import labelled
from mmbanet.apis.panoptic_report import PanopticReport
from mmbanet.evaluation.panoptic_breakdown import box_overlap, reliability
from mmbanet.evaluation.panoptic_truth import PanopticTruth

from ..test_evaluation.panoptic_sets import (
    CATEGORIES,
    META,
    NUM_CLASSES,
    NUM_THINGS,
    evaluate,
    random_set,
    samples_of,
    write_truth,
)


def report_of(paths, maps, scores=lambda label: None, examples=0):
    """Of maps in mmdet's encoding, by the image's id."""
    truth = PanopticTruth(**paths)
    truth.use_classes(META)
    report = PanopticReport(truth, examples)
    for image_id, encoded in maps.items():
        ids = encoded.astype(np.int64) + 1  # mmdet's id 0 is a class
        ids[encoded % 1000 == NUM_CLASSES] = 0
        labels = {i: (i - 1) % 1000 for i in np.unique(ids).tolist() if i}
        segments = [dict(id=i, label=label, score=scores(label)) for i, label in labels.items()]
        judgement = judge(truth, image_id, 'image', ids, segments)
        image = labelled(f'{image_id}.jpg', Path('x'), ids, segments, None)
        report.add(image._replace(judgement=judgement))
    return report


@pytest.fixture(scope='module')
def random_report(tmp_path_factory):
    truths, encoded = random_set(0, 300)
    paths = write_truth(tmp_path_factory.mktemp('set'), truths)
    scores = evaluate(paths, samples_of(encoded), classwise=True)
    return report_of(paths, encoded).numbers(), scores, truths


def test_qualities_are_the_metric_s_to_the_last_digit(random_report):
    numbers, scores, _ = random_report
    for group, suffix in (('All', ''), ('Things', '_th'), ('Stuff', '_st')):
        for key in ('PQ', 'SQ', 'RQ'):
            assert numbers['quality'][group][key] == scores[key + suffix]
    for row in numbers['classes']:
        for key in ('PQ', 'SQ', 'RQ'):
            assert row[key] == scores[f'{key}_{row["name"]}']
    assert 20 < scores['PQ'] < 90


def test_every_segment_is_in_one_size_and_in_one_cell_of_the_confusion(random_report):
    numbers, _, truths = random_report
    totals = {key: sum(row[key] for row in numbers['classes']) for key in ('TP', 'FP', 'FN')}
    of_things = {
        key: sum(row[key] for row in numbers['classes'] if row['is_thing']) for key in totals
    }
    for key in totals:
        assert sum(row[key] for row in numbers['size']) == totals[key] > 50
        # Things that the PNG lacks have no box.
        assert (
            0 <= of_things[key] - sum(row[key] for row in numbers['overlap']) < 0.05 * totals[key]
        )
    table = np.array(numbers['confusion']['segments'])
    assert table[:NUM_CLASSES].sum() == totals['TP'] + totals['FN']
    assert table[:NUM_CLASSES, :NUM_CLASSES].diagonal().sum() == totals['TP']
    false = table[: NUM_CLASSES + 1, :NUM_CLASSES].sum() - totals['TP']
    assert false == totals['FP']
    labels = {c['id']: label for label, c in enumerate(CATEGORIES)}
    counts = np.zeros(NUM_CLASSES, dtype=int)
    for _, segments in truths.values():
        for segment in segments:
            counts[labels[segment['category_id']]] += not segment['iscrowd']
    assert table[:NUM_CLASSES].sum(axis=1).tolist() == counts.tolist()


def write_hand_made(folder):
    """A thing of 40 x 40 with its lower half hidden behind another, over two kinds of stuff."""
    ids = np.full((100, 100), 3)
    ids[50:] = 4
    ids[0:40, 0:40] = 1
    ids[20:40, 0:60] = 2
    rle = dict(size=[100, 100], counts=[0, *([40, 60] * 39), 40, 6060])  # columns of 40 rows
    segments = [
        dict(id=1, category_id=7, area=800, iscrowd=0, amodal_rle=rle),
        dict(id=2, category_id=92, area=1200, iscrowd=0),
        dict(id=3, category_id=41, area=int((ids == 3).sum()), iscrowd=0),
        dict(id=4, category_id=11, area=5000, iscrowd=0),
    ]
    return write_truth(folder, {1: (ids, segments)}), ids


def test_a_map_by_hand(tmp_path):
    paths, ids = write_hand_made(tmp_path)
    found = np.full(ids.shape, NUM_CLASSES)
    found[ids == 1] = 0 + 1000  # right
    found[ids == 2] = 2 + 2000  # class 2 in place of 1
    found[ids == 4] = 5  # right; segment 3 is void
    found[50:60, 0:10] = 2 + 3000  # false, in the stuff below
    numbers = report_of(
        paths, {1: found}, lambda label: [0.95, None, 0.55][label] if label < NUM_THINGS else None
    ).numbers()
    table = np.array(numbers['confusion']['segments'])
    no_match, void = NUM_CLASSES, NUM_CLASSES + 1
    expected = {(0, 0): 1, (1, 2): 1, (4, void): 1, (5, 5): 1, (no_match, 2): 1}
    assert {tuple(map(int, where)): int(table[tuple(where)]) for where in np.argwhere(table)} == (
        expected
    )
    small, medium, large = numbers['size']
    assert (small['TP'], small['FP'], small['FN']) == (1, 1, 0)  # 800 and 100 pixels
    assert (medium['TP'], medium['FP'], medium['FN']) == (1, 1, 2)
    assert large['PQ'] is None
    # Boxes: the upper 20 rows of 40 columns, the lower 20 rows of 60 columns, 10 x 10 below.
    none, *others = numbers['overlap']
    assert (none['TP'], none['FP'], none['FN']) == (1, 2, 1)
    assert all(group['PQ'] is None for group in others)
    assert [h['segments'] for h in numbers['hidden']] == [0, 0, 1, 0]  # half of 1600 pixels
    assert numbers['hidden'][2]['found'] == 100
    bins = numbers['calibration']['bins']
    assert [b['count'] for b in bins] == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]
    assert bins[5]['right'] == 0
    assert bins[9]['right'] == 100
    assert numbers['calibration']['ECE'] == pytest.approx((2 * 55 + 5) / 3)


def test_worst_and_best_are_not_the_same_images(tmp_path):
    truths, encoded = random_set(1, 30)
    paths = write_truth(tmp_path, truths)
    report = report_of(paths, encoded, examples=5)
    worst, best = report.worst_and_best()
    known = [image['PQ'] for image in report.images if image['PQ'] is not None]
    assert [100 * image.judgement.pq for image in worst] == sorted(known)[:5]
    assert [100 * image.judgement.pq for image in best] == sorted(known, reverse=True)[:5]
    assert not {image.name for image in worst} & {image.name for image in best}
    few = report_of(paths, dict(list(encoded.items())[:4]), examples=5)
    assert [len(images) for images in few.worst_and_best()] == [4, 0]


def test_reliability_against_a_loop():
    rng = np.random.default_rng(0)
    scores = np.append(rng.random(500), [0, 1, 0.1, 0.3])
    is_right = rng.random(504) < scores**2
    found = reliability(scores, is_right)
    error = 0
    for k in range(10):
        inside = [i for i, s in enumerate(scores) if min(int(s * 10), 9) == k]
        assert found['bins'][k]['count'] == len(inside) > 20
        right, mean = np.mean(is_right[inside]), np.mean(scores[inside])
        assert found['bins'][k]['right'] == pytest.approx(100 * right)
        error += len(inside) / 504 * abs(right - mean)
    assert found['ECE'] == pytest.approx(100 * error)
    assert error > 0.1
    assert reliability(np.zeros(0), np.zeros(0, dtype=bool))['ECE'] is None


def test_overlap_of_boxes_against_pixels():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.integers(0, 20, (9, 2)), rng.integers(1, 12, (9, 2))], axis=1)
    masks = np.zeros((9, 40, 40), dtype=bool)
    for mask, (x, y, width, height) in zip(masks, boxes):
        mask[y : y + height, x : x + width] = True
    for i, share in enumerate(box_overlap(boxes)):
        others = [(masks[i] & masks[j]).sum() / masks[i].sum() for j in range(9) if j != i]
        assert math.isclose(share, max(others))
    assert box_overlap(boxes[:1]).tolist() == [0]
    assert box_overlap(boxes[:0]).shape == (0,)
