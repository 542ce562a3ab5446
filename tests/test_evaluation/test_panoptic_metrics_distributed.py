"""The metrics on two ranks, which share an odd number of images: one of them is padded."""

import json

import mmengine.dist
import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmengine.dataset import DefaultSampler
from mmengine.registry import METRICS

from ..conftest import run_on_two_ranks
from .panoptic_sets import (
    META,
    NUM_THINGS,
    random_prediction,
    random_truth,
    sample,
    write_truth,
)

COUNT = 7


def evaluate(metrics, samples, size):
    """The results of this rank's part of the samples, in the order of MMEngine's sampler."""
    scores = {}
    for config in metrics:
        metric = METRICS.build(config)
        metric.dataset_meta = META
        for i in DefaultSampler(samples, shuffle=False):
            metric.process({}, [samples[i]])
        scores.update(metric.evaluate(size))
    return scores


def run(metrics, samples):
    """One of two ranks."""
    dist.init_process_group('gloo')
    part = len(DefaultSampler(samples, shuffle=False))
    return part, evaluate(metrics, samples, COUNT), evaluate(metrics, samples, COUNT + 1)


def random_samples(rng, truths):
    """With all that both metrics look at."""
    samples = []
    for image_id, truth in truths.items():
        pan = random_prediction(rng, *truth)
        codes = np.unique(pan)
        things = codes[codes % INSTANCE_OFFSET < NUM_THINGS]
        instances = dict(
            labels=torch.from_numpy(things % INSTANCE_OFFSET).long(),
            scores=torch.from_numpy(rng.random(len(things))),
            masks=torch.from_numpy(pan == things[:, None, None]),
        )
        semantics = dict(sem_seg=torch.from_numpy(pan)[None] % INSTANCE_OFFSET)
        samples.append(sample(image_id, pan, pred_sem_seg=semantics, pred_instances=instances))
    return samples


def test_images_without_annotation_leave_padding_in_its_place(tmp_path, monkeypatch):
    """MMEngine drops what pads a rank by its place in the results of both."""
    rng = np.random.default_rng(0)
    truths = {i: random_truth(rng) for i in range(COUNT)}
    paths = write_truth(tmp_path, truths)
    samples = random_samples(rng, truths)
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    del content['annotations'][3]
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    padded = [*samples, samples[0]]
    monkeypatch.setattr(mmengine.dist.dist, 'get_dist_info', lambda: (0, 2))
    for kind in ('PanopticMetric', 'PanopticInstanceMetric'):
        scores = []
        for parts in ([samples], [padded[::2], padded[1::2]]):
            metrics = [METRICS.build(dict(type=f'mmbanet.{kind}', **paths)) for _ in parts]
            for metric, part in zip(metrics, parts):
                metric.dataset_meta = META
                metric.process({}, part)
            found = [metric.results for metric in metrics]
            monkeypatch.setattr(mmengine.dist.dist, 'all_gather_object', lambda _, f=found: f)
            results = mmengine.dist.collect_results(found[0], COUNT, 'gpu')
            scores.append(metrics[0].compute_metrics(results))
        assert scores[1] == pytest.approx(scores[0], abs=1e-10, nan_ok=True)


def test_two_ranks_are_as_one(tmp_path):
    rng = np.random.default_rng(0)
    truths = {i: random_truth(rng) for i in range(COUNT)}
    paths = write_truth(tmp_path, truths)
    samples = random_samples(rng, truths)
    metrics = [
        dict(type='mmbanet.PanopticMetric', boundary=True, stuff_iou=True, **paths),
        dict(type='mmbanet.PanopticInstanceMetric', **paths),
    ]
    expected = evaluate(metrics, samples, COUNT)

    results = run_on_two_ranks(run, tmp_path, metrics, samples)
    for part, scores, counted_twice in results:
        assert part == COUNT // 2 + 1
        assert scores == pytest.approx(expected, abs=1e-10, nan_ok=True)
        # A control: counting the padded image twice would be seen.
        assert abs(counted_twice['coco_panoptic/PQ'] - expected['coco_panoptic/PQ']) > 0.01
