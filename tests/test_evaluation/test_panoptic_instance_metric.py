"""AP of masks against pycocotools on files, and mmdet's metric."""

import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric
from mmdet.structures.mask import encode_mask_results
from mmengine.registry import METRICS
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmbanet.datasets import annotation_files

from .panoptic_sets import CATEGORIES, META, NUM_THINGS, random_truth, write_truth

SIZE = 40, 50


def random_detections(rng, ids, segments):
    """Things moved a little, some twice or of another class, with random scores."""
    labels, masks = [], []
    label_of = {category['id']: label for label, category in enumerate(CATEGORIES)}
    for segment in segments:
        label = label_of[segment['category_id']]
        for _ in range(rng.integers(3) if label < NUM_THINGS else 0):
            labels.append(label if rng.random() < 0.8 else rng.integers(NUM_THINGS))
            moved = np.roll(ids, rng.integers(-1, 2, size=2), axis=(0, 1))
            masks.append(moved == segment['id'])
    return dict(
        labels=torch.tensor(labels, dtype=torch.long),
        scores=torch.from_numpy(rng.permutation(len(labels)) / max(len(labels), 1)),
        bboxes=torch.zeros(len(labels), 4),
        # mmdet gives no masks the network's size
        masks=torch.from_numpy(np.array(masks)) if masks else torch.zeros(0, 28, 28).bool(),
    )


@pytest.fixture
def random_set(tmp_path):
    rng = np.random.default_rng(0)
    truths = {5 + 3 * i: random_truth(rng, SIZE) for i in range(60)}
    samples = [
        dict(img_id=i, ori_shape=SIZE, pred_instances=random_detections(rng, *truth))
        for i, truth in truths.items()
    ]
    return write_truth(tmp_path, truths), truths, samples


def write_instances(path, truths, categories=CATEGORIES[:NUM_THINGS]):
    """The things as COCO's instance annotations, the categories in another order."""
    annotations = []
    known = {category['id'] for category in categories}
    for image_id, (ids, segments) in truths.items():
        for segment in segments:
            mask = ids == segment['id']
            if segment['category_id'] not in known or not mask.any():
                continue
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=segment['category_id'],
                    iscrowd=segment['iscrowd'],
                    area=int(mask.sum()),
                    segmentation=dict(rle, counts=rle['counts'].decode()),
                )
            )
    images = [dict(id=i, file_name=f'{i}.jpg', height=SIZE[0], width=SIZE[1]) for i in truths]
    content = dict(annotations=annotations, images=images, categories=categories[::-1])
    path.write_text(json.dumps(content))
    return str(path)


def evaluate(samples, **options):
    metric = METRICS.build(dict(type='mmbanet.PanopticInstanceMetric', **options))
    metric.dataset_meta = META
    for sample in samples:
        metric.process({}, [sample])
    scores = metric.evaluate(len(samples))
    return {name.removeprefix('coco_panoptic/'): value for name, value in scores.items()}


def test_equals_pycocotools_and_mmdet_on_files(random_set, tmp_path):
    paths, truths, samples = random_set
    instances = write_instances(tmp_path / 'instances.json', truths)
    detections = []
    for sample in samples:
        predicted = sample['pred_instances']
        for label, score, mask in zip(*(predicted[k] for k in ('labels', 'scores', 'masks'))):
            detections.append(
                dict(
                    image_id=sample['img_id'],
                    category_id=CATEGORIES[label]['id'],
                    score=float(score),
                    segmentation=coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)),
                )
            )
    coco = COCO(instances)
    reference = COCOeval(coco, coco.loadRes(detections), 'segm')
    for step in (reference.evaluate, reference.accumulate, reference.summarize):
        step()

    scores = evaluate(samples, **paths)
    assert list(scores) == ['AP_mask', 'AP_mask_50', 'AP_mask_75']
    assert list(scores.values()) == pytest.approx(100 * reference.stats[:3], abs=1e-10)
    assert 10 < scores['AP_mask'] < scores['AP_mask_50'] < 95
    assert evaluate(samples, ann_file=instances) == pytest.approx(scores, abs=1e-10)

    theirs = CocoMetric(ann_file=instances, metric='segm')
    theirs.dataset_meta = dict(classes=[c['name'] for c in reversed(CATEGORIES[:NUM_THINGS])])
    for sample in samples:
        predicted = sample['pred_instances']
        # mmdet numbers the labels in the file's order
        flipped = dict(predicted, labels=NUM_THINGS - 1 - predicted['labels'])
        theirs.process({}, [dict(sample, pred_instances=flipped)])
    expected = theirs.evaluate(len(samples))['coco/segm_mAP']
    assert scores['AP_mask'] / 100 == pytest.approx(expected, abs=6e-4)  # it rounds


@pytest.fixture(params=['everything', 'nothing found', 'crowds and stuff', 'no image'])
def any_set(request, random_set, tmp_path):
    paths, truths, samples = random_set
    if request.param == 'nothing found':
        nothing = dict(labels=torch.zeros(0).long(), scores=torch.zeros(0), masks=torch.zeros(0))
        return paths, [dict(sample, pred_instances=nothing) for sample in samples]
    if request.param == 'crowds and stuff':
        for _, segments in truths.values():
            for segment in segments[::2]:
                segment['iscrowd'] = 1
        return write_truth(tmp_path / 'crowds', truths), samples
    return paths, [] if request.param == 'no image' else samples


def test_hotcoco_finds_the_same(any_set):
    pytest.importorskip('hotcoco')
    paths, samples = any_set
    expected = evaluate(samples, **paths)
    assert evaluate(samples, library='hotcoco', **paths) == pytest.approx(
        expected, abs=1e-10, nan_ok=True
    )


def test_library_that_is_not_there(random_set, monkeypatch):
    paths, _, _ = random_set
    monkeypatch.setitem(sys.modules, 'hotcoco', None)
    with pytest.raises(ImportError, match=r'pip install hotcoco, or take .*pycocotools'):
        evaluate([], library='hotcoco', **paths)
    with pytest.raises(ValueError, match="library must be 'pycocotools' or 'hotcoco', got 'coco'"):
        evaluate([], library='coco', **paths)


def test_metrics_read_each_file_once(random_set, monkeypatch):
    paths, _, samples = random_set
    decoded, parsed = [], []
    monkeypatch.setattr(
        annotation_files.cv2,
        'imdecode',
        lambda *args, real=cv2.imdecode: decoded.append(1) or real(*args),
    )
    monkeypatch.setattr(annotation_files, 'msgspec', None)  # Python's parser can be counted
    monkeypatch.setattr(
        annotation_files.json,
        'loads',
        lambda *args, real=json.loads, **kwargs: parsed.append(1) or real(*args, **kwargs),
    )
    metrics = [
        METRICS.build(dict(type=f'mmbanet.{name}', **paths))
        for name in ('PanopticMetric', 'PanopticInstanceMetric')
    ]
    for sample in samples:
        predicted = dict(sem_seg=torch.full((1, *SIZE), len(CATEGORIES)))
        for metric in metrics:
            metric.dataset_meta = META
            metric.process({}, [dict(sample, pred_panoptic_seg=predicted)])
    assert (len(parsed), len(decoded)) == (1, len(samples))


def test_files_that_change_are_read_anew(random_set):
    paths, _, samples = random_set
    metric = METRICS.build(dict(type='mmbanet.PanopticInstanceMetric', **paths))
    metric.dataset_meta = META
    sample = next(s for s in samples if len(metric.truth.instances(s['img_id'])) > 1)
    name = metric.truth.annotations.annotations[sample['img_id']]['file_name']
    path = Path(paths['seg_prefix']) / name
    flipped = cv2.imread(str(path))[::-1]
    before = metric.truth.load(sample['img_id'])[0]
    cv2.imwrite(str(path), flipped)
    assert (metric.truth.load(sample['img_id'])[0] == before[::-1]).all()
    content = json.loads(Path(paths['ann_file']).read_text())
    content['images'] = [image for image in content['images'] if image['id'] != sample['img_id']]
    content['annotations'] = [
        item for item in content['annotations'] if item['image_id'] != sample['img_id']
    ]
    Path(paths['ann_file']).write_text(json.dumps(content))
    with pytest.raises(KeyError, match='is not in'):
        evaluate([sample], **paths)  # while the first metric lives


def test_mask_scores_and_perfect_masks(random_set):
    paths, truths, samples = random_set
    for sample in samples:
        count = len(sample['pred_instances']['labels'])
        sample['pred_instances']['mask_scores'] = torch.ones(count)
    assert evaluate(samples, **paths) != evaluate(
        [
            dict(
                s,
                pred_instances={k: v for k, v in s['pred_instances'].items() if k != 'mask_scores'},
            )
            for s in samples
        ],
        **paths,
    )
    label_of = {category['id']: label for label, category in enumerate(CATEGORIES)}
    for sample, (ids, segments) in zip(samples, truths.values()):
        things = [s for s in segments if label_of[s['category_id']] < NUM_THINGS]
        things = [s for s in things if (ids == s['id']).any()]
        masks = [torch.from_numpy(ids == s['id']) for s in things]
        sample['pred_instances'] = dict(
            labels=torch.tensor([label_of[s['category_id']] for s in things], dtype=torch.long),
            scores=torch.rand(len(things)),
            masks=torch.stack(masks) if masks else torch.zeros(0, 1, 1),
        )
    assert set(evaluate(samples, **paths).values()) == {100.0}


def test_masks_that_mmdet_has_saved(random_set):
    paths, _, samples = random_set
    saved = []
    for sample in samples:
        masks = encode_mask_results(sample['pred_instances']['masks'].numpy())
        saved.append(dict(sample, pred_instances=dict(sample['pred_instances'], masks=masks)))
    assert evaluate(saved, **paths) == evaluate(samples, **paths)


def test_nothing_found_and_nothing_annotated(random_set, tmp_path):
    paths, truths, samples = random_set
    nothing = dict(labels=torch.zeros(0).long(), scores=torch.zeros(0), masks=torch.zeros(0, 1, 1))
    silent = [dict(sample, pred_instances=nothing) for sample in samples]
    assert set(evaluate(silent, **paths).values()) == {0.0}
    empty = write_truth(tmp_path / 'empty', {i: (np.zeros(SIZE, dtype=int), []) for i in truths})
    stuff = write_truth(tmp_path / 'stuff', truths, [dict(c, isthing=0) for c in CATEGORIES])
    for path, given in ((empty, samples), (empty, silent), (stuff, silent), (paths, [])):
        assert all(math.isnan(value) for value in evaluate(given, **path).values())


def test_bad_input_is_refused(random_set, tmp_path):
    paths, truths, samples = random_set
    sample = next(s for s in samples if len(s['pred_instances']['labels']))
    instances = write_instances(tmp_path / 'instances.json', truths)
    both = (paths, dict(ann_file=instances))
    for options in both:
        with pytest.raises(FileNotFoundError, match=r'annotation file not found: .*nowhere.json'):
            evaluate([sample], **dict(options, ann_file='nowhere.json'))
        with pytest.raises(KeyError, match=r'image 4 is not in .*json'):
            evaluate([dict(sample, img_id=4)], **options)
        with pytest.raises(KeyError, match=r'image \d+: AP_mask needs pred_instances'):
            evaluate([dict(img_id=sample['img_id'])], **options)
        predicted = sample['pred_instances']
        stuff = dict(predicted, labels=predicted['labels'] * 0 + NUM_THINGS)
        with pytest.raises(ValueError, match=r'labels that are no things: \[3\]'):
            evaluate([dict(sample, pred_instances=stuff)], **options)
        small = dict(predicted, masks=predicted['masks'][:, :-1])
        with pytest.raises(ValueError, match=r'masks must have the size .*40, 50.*got .*39, 50'):
            evaluate([dict(sample, pred_instances=small)], **options)
    with pytest.raises(ValueError, match=r'"segments_info" must be a list, .*different files'):
        evaluate([sample], **dict(paths, ann_file=instances))
    with pytest.raises(ValueError, match='the metrics need seg_prefix, too'):
        evaluate([sample], ann_file=paths['ann_file'])
    other = write_instances(tmp_path / 'other.json', truths, [dict(id=7, name='cat')])
    with pytest.raises(ValueError, match=r"categories unknown to the data set: \['cat'\]"):
        evaluate([sample], ann_file=other)
