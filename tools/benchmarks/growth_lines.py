"""What is measured of growing sizes: lines of ``growth.py``'s plot."""

import contextlib
import io
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import annotation_loading
import cv2
import fusion_inputs as given
import numpy as np
import torch
from fusion import SETTINGS

from mmbanet.apis import PanopticInferencer
from mmbanet.apis.image_sources import find_images
from mmbanet.cli.work.predict import Work, join_group
from mmbanet.datasets.panoptic_files import write_segment_map
from mmbanet.evaluation import PanopticMetric
from mmbanet.models.fusion import OcclusionAwareFusionHead
from mmbanet.structures import encode_ids

CONFIG = Path(__file__).parents[2] / 'configs/banet/banet_r18_fpn_scenes.py'
SIZE = 480, 640
GRID = 4, 6  # annotated segments of an image
CLASSES, OBJECTS, IMAGES = 133, 30, 32  # where these are not what grows


class Line(NamedTuple):
    """What is measured for one size after the other.

    ``make`` prepares a size, in a folder, and returns what is measured: a function that returns
    core seconds.
    """

    panel: str
    what: str
    sizes: Sequence[int]
    make: Callable[[int, Path], Callable[[], float]]


def measure(line: Line, size: int, rounds: int) -> float:
    """Core seconds, the median of the rounds, after one that does not count."""
    with tempfile.TemporaryDirectory() as folder:
        run = line.make(size, Path(folder))
        run()
        return statistics.median(run() for _ in range(rounds))


def timed(function: Callable[[], object]) -> Callable[[], float]:
    """The function, which returns how long it took a core, in seconds, and prints nothing."""

    def run() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.process_time()
            function()
            return time.process_time() - start

    return run


def fusion(
    objects: int = OBJECTS, size: tuple[int, int] = SIZE, classes: int = CLASSES
) -> Callable[[], float]:
    """Of objects with logits of stride 4."""
    case = given.Case(objects, *size)
    instances, image = given.random_instances(case, 'cpu'), given.random_image(case, 'cpu')
    things = classes // 2
    instances.labels %= things
    logits = given.random_logits(case, 'cpu', classes)
    head = OcclusionAwareFusionHead(things, classes - things, test_cfg=SETTINGS)
    return timed(torch.no_grad()(lambda: head.predict([instances], [logits], [image])))


def metric(
    folder: Path, images: int = IMAGES, size: tuple[int, int] = SIZE, classes: int = CLASSES
) -> Callable[[], float]:
    """Of predictions in memory, with the reading of annotations and the printing of the table."""
    samples = make_samples(folder, images, size, classes)
    return timed(lambda: evaluate(folder, samples, len(samples)))


def evaluate(folder: Path, samples: list[dict], total: int) -> None:
    """Evaluates this process's predictions, of so many in all."""
    metric = PanopticMetric(str(folder / 'panoptic.json'), str(folder))
    for sample in samples:
        metric.process({}, [sample])
    metric.evaluate(total)


def make_samples(folder: Path, images: int, size: tuple[int, int], classes: int) -> list[dict]:
    """Writes annotated images of a grid of segments; returns predictions, which are moved."""
    random = np.random.default_rng(0)
    height, width = size
    rows, columns = (np.arange(side) * cells // side for side, cells in zip(size, GRID))
    cells = rows[:, None] * GRID[1] + columns
    areas = np.bincount(cells.ravel()).tolist()
    segment = dict(iscrowd=0, bbox=[0, 0, width, height])
    entries, annotations, samples = [], [], []
    write_segment_map(folder / '0.png', cells + 1)
    for i in range(images):
        labels = random.integers(0, classes, len(areas))
        if i:
            os.link(folder / '0.png', folder / f'{i}.png')
        entries.append(dict(id=i, file_name=f'{i}.jpg', height=height, width=width))
        segments = [
            segment | dict(id=cell + 1, category_id=label, area=area)
            for cell, (label, area) in enumerate(zip(labels.tolist(), areas))
        ]
        annotations.append(dict(image_id=i, file_name=f'{i}.png', segments_info=segments))
        ids = encode_ids(labels, np.where(labels < classes // 2, np.arange(len(labels)), 0))
        panoptic = torch.from_numpy(np.roll(ids[cells], (3, 3), (0, 1)))[None]
        samples.append(dict(img_id=i, ori_shape=size, pred_panoptic_seg=dict(sem_seg=panoptic)))
    categories = [dict(id=c, name=f'{c}', isthing=int(c < classes // 2)) for c in range(classes)]
    content = dict(images=entries, annotations=annotations, categories=categories)
    (folder / 'panoptic.json').write_text(json.dumps(content))
    return samples


def loading(images: int, folder: Path) -> Callable[[], float]:
    """Of the annotations to train on."""
    annotation_loading.make_annotations(folder, images)
    return lambda: annotation_loading.load(annotation_loading.OURS, str(folder))[0]


def metric_in_processes(processes: int, folder: Path) -> Callable[[], float]:
    """Each has its share of the predictions."""
    samples = make_samples(folder, 4 * IMAGES, SIZE, CLASSES)

    def share(rank: int, ranks: int) -> None:
        evaluate(folder, samples[rank::ranks], len(samples))

    return lambda: longest(share, processes, folder)


def predict_in_processes(processes: int, folder: Path) -> Callable[[], float]:
    """``mmbanet predict`` of random images by a small model."""
    random = np.random.default_rng(0)
    for i in range(IMAGES):
        cv2.imwrite(str(folder / f'{i}.jpg'), random.integers(0, 256, (192, 256, 3), np.uint8))
    found = find_images([str(folder)])
    inferencer = PanopticInferencer(str(CONFIG))

    def share(rank: int, ranks: int) -> None:
        with tempfile.TemporaryDirectory() as out:
            Work(inferencer, Path(out), 1, True, rank, ranks).run(found)

    return lambda: longest(share, processes, folder)


def longest(share: Callable[[int, int], None], processes: int, folder: Path) -> float:
    """Core seconds of the process that takes longest; each is given its rank, and their number."""
    context = multiprocessing.get_context('fork')  # what was made is there
    seconds = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])

    def work(rank: int) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(rank))
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        os.chdir(folder)  # MMEngine exchanges results by files in here
        seconds.put(timed(lambda: share(*join_group()))())

    workers = [context.Process(target=work, args=(rank,)) for rank in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f'one of {processes} processes failed, see above')
    return max(seconds.get() for _ in workers)


PIXELS = (150, 300, 600, 1200, 2400)  # high, and 4/3 as wide
LINES = (
    Line('objects', 'fusion', (1, 3, 10, 30, 100, 300, 1000), lambda n, _: fusion(objects=n)),
    Line('pixels', 'fusion', [h * h * 4 // 3 for h in PIXELS], lambda n, _: fusion(size=sides(n))),
    Line('pixels', 'metric', [h * h * 4 // 3 for h in PIXELS], lambda n, f: metric(f, 4, sides(n))),
    Line('classes', 'fusion', (10, 30, 100, 300, 900), lambda n, _: fusion(classes=n)),
    Line('classes', 'metric', (10, 30, 100, 300, 900), lambda n, f: metric(f, classes=n)),
    Line('images', 'loading', (500, 1000, 2000, 4000, 8000, 16000), loading),
    Line('images', 'metric', (8, 32, 128, 512), lambda n, f: metric(f, n, (240, 320))),
    Line('processes', 'metric', (1, 2), metric_in_processes),
    Line('processes', 'predict', (1, 2), predict_in_processes),
)


def sides(pixels: int) -> tuple[int, int]:
    """H and W of an image that is 4/3 as wide as high."""
    height = round((pixels * 3 / 4) ** 0.5)
    return height, pixels // height
