"""Small random panoptic data sets with predictions, and panopticapi's verdict on them."""

import contextlib
import io
import json

import cv2
import numpy as np
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.registry import METRICS
from panopticapi.evaluation import pq_compute_single_core
from panopticapi.utils import id2rgb

NUM_THINGS, NUM_STUFF = 3, 3
NUM_CLASSES = NUM_THINGS + NUM_STUFF
# Ids in no order, so that labels and ids cannot be mixed up.
CATEGORIES = [
    dict(id=category_id, name=f'class {label}', isthing=int(label < NUM_THINGS))
    for label, category_id in enumerate([7, 92, 3, 200, 41, 11])
]
# The nine results.
KEYS = [kind + group for group in ('', '_th', '_st') for kind in ('PQ', 'SQ', 'RQ')]
META = dict(classes=[category['name'] for category in CATEGORIES])


def random_blocks(rng, size, count):
    """(H, W) int: 0..count-1, rectangles laid over each other; some are hidden or cut."""
    blocks = np.zeros(size, dtype=np.int64)
    for i in range(1, count):
        y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
        height, width = rng.integers(2, size[0]), rng.integers(2, size[1])
        blocks[y : y + height, x : x + width] = i
    return blocks


def random_truth(rng, size=(14, 18), labels=range(NUM_CLASSES)):
    """(ids (H, W), segments_info): void, crowds, segments that PNG or JSON lacks."""
    blocks = random_blocks(rng, size, rng.integers(1, 8))
    ids = np.append(0, rng.integers(1, 2**24 - 1, size=blocks.max()))[blocks]
    if rng.random() < 0.3:
        ids[ids == ids[-1, -1]] = 0
    segments = []
    for segment_id in rng.permutation(np.unique(ids[ids > 0])).tolist():
        if rng.random() < 0.03:
            continue  # in the PNG only
        category = CATEGORIES[rng.choice(labels)]
        area = int((ids == segment_id).sum()) + int(rng.random() < 0.05)
        crowd = int(rng.random() < 0.2)
        segments.append(dict(id=segment_id, category_id=category['id'], area=area, iscrowd=crowd))
    if rng.random() < 0.05:  # in the JSON file only
        category = CATEGORIES[rng.choice(labels)]
        segments.append(dict(id=2**24 - 1, category_id=category['id'], area=9, iscrowd=0))
    return ids, segments


def random_prediction(rng, ids, segments, labels=range(NUM_CLASSES)):
    """(H, W) int32 in mmdet's encoding: most segments moved a little, some of another class."""
    label_of = {category['id']: label for label, category in enumerate(CATEGORIES)}
    encoded = np.full(ids.shape, NUM_CLASSES)
    moved = np.roll(ids, rng.integers(-1, 2, size=2), axis=(0, 1))
    for i, segment in enumerate(segments, 1):
        label = label_of[segment['category_id']]
        if rng.random() < 0.2:
            label = rng.choice(labels)
        if rng.random() < 0.9:
            encoded[moved == segment['id']] = label + i * INSTANCE_OFFSET
    for i in range(rng.integers(0, 3)):  # over what is annotated, and over void
        y, x = rng.integers(0, ids.shape[0]), rng.integers(0, ids.shape[1])
        encoded[y : y + 5, x : x + 5] = rng.choice(labels) + (100 + i) * INSTANCE_OFFSET
    return encoded.astype(np.int32)


def random_set(seed, count, labels=range(NUM_CLASSES)):
    """Truths and predictions by image id."""
    rng = np.random.default_rng(seed)
    truths = {100 + i: random_truth(rng, labels=labels) for i in range(count)}
    encoded = {i: random_prediction(rng, *truth, labels=labels) for i, truth in truths.items()}
    return truths, encoded


def write_truth(folder, truths, categories=CATEGORIES):
    """The annotation file and the PNGs of {image id: (ids, segments_info)}."""
    (folder / 'png').mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for image_id, (ids, segments) in truths.items():
        cv2.imwrite(str(folder / 'png' / f'{image_id}.png'), id2rgb(ids)[..., ::-1])
        height, width = ids.shape
        images.append(dict(id=image_id, file_name=f'{image_id}.jpg', height=height, width=width))
        annotations.append(
            dict(image_id=image_id, file_name=f'{image_id}.png', segments_info=segments)
        )
    content = dict(annotations=annotations, categories=categories, images=images)
    (folder / 'panoptic.json').write_text(json.dumps(content))
    return dict(ann_file=str(folder / 'panoptic.json'), seg_prefix=str(folder / 'png'))


def sample(image_id, encoded, **others):
    """What MMEngine's evaluator hands to a metric."""
    return dict(
        img_id=image_id,
        img_path=f'{image_id}.jpg',
        ori_shape=encoded.shape,
        pred_panoptic_seg=dict(sem_seg=torch.tensor(encoded)[None]),
        **others,
    )


def samples_of(encoded):
    return [sample(image_id, pan) for image_id, pan in encoded.items()]


def build(paths, **options):
    metric = METRICS.build(dict(type='mmbanet.PanopticMetric', **paths, **options))
    metric.dataset_meta = META
    return metric


def evaluate(paths, samples, **options):
    """The metric's results without their prefix."""
    metric = build(paths, **options)
    for item in samples:
        metric.process({}, [item])
    scores = metric.evaluate(len(samples))
    return {name.removeprefix('coco_panoptic/'): value for name, value in scores.items()}


def panopticapi_stat(folder, truths, encoded, compute=pq_compute_single_core):
    """panopticapi's ``PQStat`` of mmdet's maps, through PNGs and its own reader."""
    (folder / 'predicted').mkdir(exist_ok=True)
    pairs = []
    for image_id, (_, segments) in truths.items():
        pan, predicted = np.zeros(encoded[image_id].shape, dtype=np.int64), []
        for i, code in enumerate(np.unique(encoded[image_id]).tolist(), 1):
            if code % INSTANCE_OFFSET == NUM_CLASSES:
                continue
            pan[encoded[image_id] == code] = i
            category = CATEGORIES[code % INSTANCE_OFFSET]
            predicted.append(dict(id=i, category_id=category['id']))
        name = f'{image_id}.png'
        cv2.imwrite(str(folder / 'predicted' / name), id2rgb(pan)[..., ::-1])
        annotation = dict(image_id=image_id, file_name=name, segments_info=segments)
        pairs.append((annotation, dict(annotation, segments_info=predicted)))
    with contextlib.redirect_stdout(io.StringIO()):
        categories = {category['id']: category for category in CATEGORIES}
        return compute(0, pairs, str(folder / 'png'), str(folder / 'predicted'), categories)


def scores_of(stat):
    """The nine numbers as mmdet names them, in percent; without those that are undefined."""
    categories = {category['id']: category for category in CATEGORIES}
    scores = {}
    for suffix, isthing in (('', None), ('_th', True), ('_st', False)):
        with contextlib.suppress(ZeroDivisionError):
            average, _ = stat.pq_average(categories, isthing)
            scores.update(
                {f'{key.upper()}{suffix}': 100 * average[key] for key in ('pq', 'sq', 'rq')}
            )
    return scores
