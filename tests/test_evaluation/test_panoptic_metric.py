"""The panoptic metric against panopticapi, file by file, and what it does with odd data."""

import contextlib
import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.evaluation.metrics import CocoPanopticMetric
from mmengine.registry import METRICS
from panopticapi.evaluation import pq_compute_single_core
from panopticapi.utils import id2rgb, rgb2id
from PIL import Image

from ..conftest import COCO_SAMPLE
from .panoptic_sets import (
    CATEGORIES,
    KEYS,
    META,
    NUM_CLASSES,
    NUM_THINGS,
    evaluate,
    panopticapi_stat,
    random_set,
    sample,
    samples_of,
    scores_of,
    write_truth,
)


def assert_same(scores, expected):
    assert set(expected) <= set(scores)
    for key, value in expected.items():
        assert abs(scores[key] - value) / 100 < 1e-12, key


def test_thousand_random_scenes_equal_panopticapi(tmp_path):
    truths, encoded = random_set(0, 1000)
    paths = write_truth(tmp_path, truths)
    stat = panopticapi_stat(tmp_path, truths, encoded)
    scores = evaluate(paths, samples_of(encoded), classwise=True)
    assert_same(scores, scores_of(stat))
    _, per_class = stat.pq_average({c['id']: c for c in CATEGORIES}, None)
    for category in CATEGORIES:
        for key, value in per_class[category['id']].items():
            assert abs(scores[f'{key.upper()}_{category["name"]}'] / 100 - value) < 1e-12
    # There was something to count: matches, and neither all nor none of them.
    assert all(30 < scores[key] < 90 for key in KEYS)


def test_panopticapi_is_not_needed():
    """It would keep a user's numpy below 2."""
    code = 'import sys; sys.modules["panopticapi"] = None; import mmbanet.apis, mmbanet.evaluation'
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_every_image_alone_equals_panopticapi(tmp_path):
    truths, encoded = random_set(1, 100)
    paths = write_truth(tmp_path, truths)
    undefined = 0
    for image_id, pan in encoded.items():
        expected = scores_of(panopticapi_stat(tmp_path, {image_id: truths[image_id]}, encoded))
        scores = evaluate(paths, [sample(image_id, pan)])
        assert list(scores) == KEYS
        assert_same(scores, expected)
        for key in set(KEYS) - set(expected):
            undefined += 1
            assert math.isnan(scores[key])
    assert undefined > 10


def test_counts_of_images_sum_up_to_the_quality_of_any_of_them(tmp_path):
    truths, encoded = random_set(2, 12)
    paths = write_truth(tmp_path, truths)
    evaluate(paths, samples_of(encoded), image_counts=str(tmp_path / 'counts'))
    with np.load(tmp_path / 'counts') as found:
        img_ids, counts, is_thing = found['img_id'], found['counts'], found['is_thing']
    assert img_ids.tolist() == list(encoded)
    assert is_thing.tolist() == [bool(category['isthing']) for category in CATEGORIES]
    some = img_ids[3:9].tolist()
    expected = evaluate(paths, samples_of({img_id: encoded[img_id] for img_id in some}))
    iou, matched, false, missed = counts[3:9].sum(axis=0).T
    segments = matched + (false + missed) / 2
    quality = 100 * (iou[segments > 0] / segments[segments > 0]).mean()
    assert abs(quality - expected['PQ']) < 1e-9


def test_equals_mmdets_metric_and_changes_no_prediction(tmp_path):
    truths, encoded = random_set(2, 40)
    paths = write_truth(tmp_path, truths)
    samples = samples_of(encoded)
    scores = evaluate(paths, samples, boundary=True)
    for image_id, item in zip(encoded, samples):
        assert np.array_equal(item['pred_panoptic_seg']['sem_seg'][0], encoded[image_id])
    theirs = CocoPanopticMetric(**paths)
    theirs.dataset_meta = META
    theirs.process({}, samples)
    maps = zip(samples, encoded.values())  # theirs does change them
    assert not all(np.array_equal(s['pred_panoptic_seg']['sem_seg'][0], p) for s, p in maps)
    expected = theirs.evaluate(len(samples))
    assert_same({f'coco_panoptic/{key}': scores[key] for key in KEYS}, expected)


def test_one_wrong_pixel_shows(tmp_path):
    """A control: the comparison with panopticapi can fail."""
    truths, encoded = random_set(3, 30)
    paths = write_truth(tmp_path, truths)
    expected = scores_of(panopticapi_stat(tmp_path, truths, encoded))
    assert_same(evaluate(paths, samples_of(encoded)), expected)
    changed = 0
    for image_id in encoded:
        pan = encoded[image_id].copy()
        pan[7, 9] = NUM_CLASSES
        scores = evaluate(paths, samples_of(encoded | {image_id: pan}))
        changed += any(abs(scores[key] - expected[key]) > 1e-6 for key in KEYS)
    assert changed > 3


@pytest.mark.parametrize('rule', ['crowd', 'void', 'last crowd'])
def test_what_is_ignored(tmp_path, rule):
    """Half of a predicted segment and more in void or crowd: not a false positive."""
    ids = np.zeros((4, 10), dtype=int)
    person, sky = CATEGORIES[0]['id'], CATEGORIES[4]['id']
    segments = [dict(id=9, category_id=sky, area=16, iscrowd=0)]
    ids[:, 6:] = 9
    if rule != 'void':
        ids[:, :6] = 5
        segments.append(dict(id=5, category_id=person, area=24, iscrowd=1))
    if rule == 'last crowd':
        ids[:, :1] = 6
        segments.append(dict(id=6, category_id=person, area=4, iscrowd=1))
    paths = write_truth(tmp_path, {1: (ids, segments)})

    def things(start, stop):
        pan = np.full(ids.shape, 4)
        pan[:, start:stop] = INSTANCE_OFFSET
        return evaluate(paths, [sample(1, pan)])['PQ_th']

    outcome = [math.isnan(things(*columns)) for columns in ((3, 8), (3, 9), (3, 10))]
    assert outcome == [rule != 'last crowd', False, False]  # 3 of 5, of 6 and of 7 columns


@pytest.mark.parametrize('labels', [range(NUM_THINGS), range(NUM_THINGS, NUM_CLASSES)])
def test_sets_without_things_or_stuff(tmp_path, labels):
    truths, encoded = random_set(4, 30, labels)
    paths = write_truth(tmp_path, truths)
    scores = evaluate(paths, samples_of(encoded), boundary=True, stuff_iou=False)
    expected = scores_of(panopticapi_stat(tmp_path, truths, encoded))
    assert len(expected) == 6
    assert_same(scores, expected)
    assert all(math.isnan(scores[p + key]) for key in set(KEYS) - set(expected) for p in ('', 'B'))


@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason=f'no COCO sample in {COCO_SAMPLE}')
def test_real_image_with_perturbed_truth_equals_panopticapi(tmp_path):
    folder = COCO_SAMPLE / 'annotations' / 'panoptic_val2017'
    ann_file = folder.with_suffix('.json')
    content = json.loads(ann_file.read_text())
    (annotation,) = content['annotations']
    ids = rgb2id(np.array(Image.open(folder / annotation['file_name'])))
    categories = {category['id']: category for category in content['categories']}
    label_of = {category_id: label for label, category_id in enumerate(categories)}
    metric = METRICS.build(
        dict(
            type='mmbanet.PanopticMetric',
            ann_file=str(ann_file),
            seg_prefix=str(folder),
            boundary=True,
        )
    )
    found = set()
    for seed in range(5):
        rng = np.random.default_rng(seed)
        moved = np.roll(ids, rng.integers(1, 7, size=2), axis=(0, 1))
        pan = np.zeros_like(ids)
        encoded = np.full(ids.shape, len(categories))
        predicted = []
        for i, segment in enumerate(annotation['segments_info'], 1):
            category_id = segment['category_id']
            if rng.random() < 0.1:
                category_id = rng.choice(list(categories)).item()
            if rng.random() < 0.9:
                mask = moved == segment['id']
                pan[mask] = i
                encoded[mask] = label_of[category_id] + i * INSTANCE_OFFSET
                predicted.append(dict(id=i, category_id=category_id))
        Image.fromarray(id2rgb(pan)).save(tmp_path / annotation['file_name'])
        pairs = [(annotation, dict(annotation, segments_info=predicted))]
        with contextlib.redirect_stdout(io.StringIO()):
            stat = pq_compute_single_core(0, pairs, str(folder), str(tmp_path), categories)
        metric.process({}, [sample(annotation['image_id'], encoded)])
        scores = metric.evaluate(1)
        for group, isthing in (('', None), ('_th', True), ('_st', False)):
            average, _ = stat.pq_average(categories, isthing)
            for key in ('pq', 'sq', 'rq'):
                score = scores[f'coco_panoptic/{key.upper()}{group}'] / 100
                assert abs(score - average[key]) < 1e-12
        assert scores['coco_panoptic/BPQ'] < scores['coco_panoptic/PQ']
        found.add(scores['coco_panoptic/PQ'])
    assert len(found) == 5
