"""mIoU of stuff against a plain count of pixels."""

import numpy as np
import pytest
import torch

from .panoptic_sets import (
    CATEGORIES,
    NUM_CLASSES,
    NUM_THINGS,
    evaluate,
    random_prediction,
    random_truth,
    sample,
    write_truth,
)


def semantic_sample(image_id, labels):
    labels = np.asarray(labels)
    return sample(image_id, labels, pred_sem_seg=dict(sem_seg=torch.tensor(labels)[None]))


def miou(paths, samples):
    return evaluate(paths, samples, stuff_iou=True)['mIoU_St']


def test_hand_worked(tmp_path):
    # thing, stuff 3 twice, stuff 4, void, crowd, unlisted, stuff 4
    ids = np.array([[10, 20, 20, 30, 0, 40, 50, 30]])
    labels = {10: 0, 20: 3, 30: 4, 40: 1}
    segments = [
        dict(id=i, category_id=CATEGORIES[k]['id'], area=1, iscrowd=int(i == 40))
        for i, k in labels.items()
    ]
    paths = write_truth(tmp_path, {1: (ids, segments)})
    perfect = [[0, 3, 3, 4, 3, 4, 5, 4]]  # whatever there is on void, crowd and unlisted
    assert miou(paths, [semantic_sample(1, perfect)]) == 100
    some_thing = [[NUM_CLASSES, 3, 3, 4, 3, 4, 5, 4]]
    assert miou(paths, [semantic_sample(1, some_thing)]) == 100
    on_thing = [[3, 3, 3, 4, 3, 4, 5, 4]]
    assert miou(paths, [semantic_sample(1, on_thing)]) == pytest.approx(100 * (2 / 3 + 1) / 2)
    mixed = [[0, 3, 4, 4, 3, 4, 5, 1]]
    assert miou(paths, [semantic_sample(1, mixed)]) == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)
    absent = [[5, 3, 3, 4, 3, 4, 5, 4]]  # a class that is nowhere annotated
    assert miou(paths, [semantic_sample(1, absent)]) == pytest.approx(100 * 2 / 3)


def test_random_maps_against_a_plain_count(tmp_path):
    rng = np.random.default_rng(0)
    truths = {i: random_truth(rng) for i in range(50)}
    labels = {
        i: np.minimum(random_prediction(rng, *truth) % 1000, NUM_CLASSES)
        for i, truth in truths.items()
    }
    label_of = {category['id']: label for label, category in enumerate(CATEGORIES)}
    ious = []
    for label in range(NUM_THINGS, NUM_CLASSES):
        shared = either = 0
        for i, (ids, segments) in truths.items():
            true, counted = np.zeros((2, *ids.shape), dtype=bool)
            for segment in segments:
                counted |= (ids == segment['id']) & (not segment['iscrowd'])
                if label_of[segment['category_id']] == label and not segment['iscrowd']:
                    true |= ids == segment['id']
            found = (labels[i] == label) & counted
            shared += (true & found).sum()
            either += (true | found).sum()
        ious.append(shared / either)
    paths = write_truth(tmp_path, truths)
    samples = [semantic_sample(i, pan) for i, pan in labels.items()]
    assert miou(paths, samples) == pytest.approx(100 * np.mean(ious), abs=1e-10)
    assert 30 < miou(paths, samples) < 90
