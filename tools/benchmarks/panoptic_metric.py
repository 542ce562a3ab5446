"""The panoptic metric against mmdet's: ``python tools/benchmarks/panoptic_metric.py``.

Both evaluate the same predictions, image by image, from ``process()`` to the printed table; reading
the annotation file once is left out for both. The predictions are annotations with segments moved,
dropped and given another class. The metrics take turns. Fails if their results differ by more than
1e-12. Prints a Markdown table and writes it as JSON.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import contextlib
import io
import json
import pickle
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import make_report, parse_arguments, write_report
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.evaluation.metrics import CocoPanopticMetric
from mmengine.evaluator import BaseMetric

from mmbanet.evaluation import PanopticMetric
from mmbanet.evaluation.panoptic_truth import PanopticTruth
from mmbanet.structures.matching import NO_LABEL

OURS, THEIRS, ALL = 'mmbanet', 'mmdet', 'mmbanet with boundary and mIoU'
TARGET = 5
TOLERANCE = 1e-12


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--images', type=int, default=500)
    parser.add_argument('--data-root', type=Path, default=Path('data/scenes'))
    parser.add_argument('--split', default='train', help='of the data set (default: train)')
    parser.add_argument('--rounds', type=int, default=5, help='the median counts')
    args = parse_arguments(parser, devices=('cpu',))
    annotations = args.data_root / 'annotations'
    ann_file = annotations / f'panoptic_{args.split}.json'
    if not ann_file.is_file():
        parser.error(f'{ann_file} not found: make it by tools/make_scenes.py, or say --data-root')
    content = json.loads(ann_file.read_text())
    if len(content['annotations']) < args.images:
        parser.error(f'{ann_file} has {len(content["annotations"])} images, not {args.images}')

    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # as the configs' opencv_num_threads
    paths = dict(ann_file=str(ann_file), seg_prefix=str(annotations / f'panoptic_{args.split}'))
    names = {image['id']: image['file_name'] for image in content['images'][: args.images]}
    samples = make_samples(PanopticTruth(**paths), names)
    classes = [category['name'] for category in content['categories']]
    measured = measure(paths, classes, samples, args.rounds)
    size = list(samples[0]['ori_shape'])
    report = make_report('cpu', images=len(samples), size=size, **measured)
    print_table(report)
    print(write_report(report, args.out, 'panoptic_metric_cpu'))


def make_metrics(paths: dict[str, str], classes: list[str]) -> dict[str, BaseMetric]:
    """By name."""
    with contextlib.redirect_stdout(io.StringIO()):
        metrics = {
            OURS: PanopticMetric(**paths),
            THEIRS: CocoPanopticMetric(**paths),
            ALL: PanopticMetric(**paths, boundary=True, stuff_iou=True),
        }
    for metric in metrics.values():
        metric.dataset_meta = {'classes': classes}
    return metrics


def make_samples(annotations: PanopticTruth, names: dict[int, str]) -> list[dict]:
    """Data samples as MMEngine's evaluator hands them over, with predictions."""
    samples = []
    for image_id, name in names.items():
        rng = np.random.default_rng(image_id)
        true_map, truth = annotations.load(image_id)
        void = len(annotations.classes)
        moved = np.roll(true_map, rng.integers(-3, 4, size=2), axis=(0, 1))
        panoptic = torch.full((1, *moved.shape), void, dtype=torch.int32)
        for i in np.flatnonzero(truth.labels != NO_LABEL):
            label = truth.labels[i] if rng.random() < 0.9 else rng.integers(void)
            instance = i if annotations.is_thing[label] else 0
            if rng.random() < 0.95:
                panoptic[0, moved == truth.ids[i]] = int(label + INSTANCE_OFFSET * instance)
        samples.append(
            dict(
                img_id=image_id,
                img_path=name,
                ori_shape=moved.shape,
                pred_panoptic_seg=dict(sem_seg=panoptic),
                pred_sem_seg=dict(sem_seg=panoptic % INSTANCE_OFFSET),
            )
        )
    return samples


def measure(paths: dict[str, str], classes: list[str], samples: list[dict], rounds: int) -> dict:
    """Seconds, bytes kept of each image, and the results, by metric."""
    seconds = {name: [] for name in (OURS, THEIRS, ALL)}
    kept, results = {}, {}
    for _ in range(rounds):
        # New ones, because overwriting PNGs can take mmdet's longer than writing them.
        for name, metric in make_metrics(paths, classes).items():
            given = [  # mmdet's metric writes into the maps
                dict(s, pred_panoptic_seg=dict(sem_seg=s['pred_panoptic_seg']['sem_seg'].clone()))
                for s in samples
            ]
            start = time.perf_counter()
            for sample in given:
                metric.process({}, [sample])
            processed = time.perf_counter()
            kept[name] = len(pickle.dumps(metric.results)) / len(samples)
            counted = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                results[name] = metric.evaluate(len(samples))
            seconds[name].append(time.perf_counter() - counted + processed - start)
    difference = max(
        abs(results[OURS][key] - results[THEIRS][key]) / 100 for key in results[THEIRS]
    )
    if not difference <= TOLERANCE or list(results[OURS]) != list(results[THEIRS]):
        raise RuntimeError(f'the results differ: {results[OURS]} and {results[THEIRS]}')
    return {
        'seconds': {name: statistics.median(values) for name, values in seconds.items()},
        'bytes_kept_per_image': kept,
        'largest_difference': difference,
        'results': results,
    }


def print_table(report: dict) -> None:
    """One line for each metric."""
    height, width = report['size']
    print(f'{report["images"]} images of {height}x{width}, {report["machine"]["device"]}\n')
    print('| metric | s | ms an image | bytes kept an image | times faster than mmdet | PQ |')
    print('|---|---|---|---|---|---|')
    for name, seconds in report['seconds'].items():
        faster = report['seconds'][THEIRS] / seconds
        goal = f' ({"ok" if faster >= TARGET else "missed"}: {TARGET})' if name == OURS else ''
        cells = [name, f'{seconds:.2f}', f'{1e3 * seconds / report["images"]:.2f}']
        cells += [f'{report["bytes_kept_per_image"][name]:.0f}', f'{faster:.1f}{goal}']
        print(
            '| ' + ' | '.join([*cells, f'{report["results"][name]["coco_panoptic/PQ"]:.3f}']) + ' |'
        )
    print(f'\nlargest difference of the nine results in 0..1: {report["largest_difference"]:.1e}')
