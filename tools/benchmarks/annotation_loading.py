"""Loading annotations of COCO's size: ``python tools/benchmarks/annotation_loading.py``.

Makes annotation files with as many images, segments and polygon points as COCO's, without images,
and loads them by ``PanopticDataset`` (panoptic and instance annotations, checked) and by
pycocotools (instance annotations alone), each in a process of its own. Times are of a core, which
others' work on the machine changes less than those of the clock. Prints a Markdown table with the
exponent with which the time grows, and writes it as JSON.
"""

from mmbanet.cli import run_tool

if __name__ == '__main__':
    run_tool(__file__, 'nothing was written, the same command starts again')

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import make_report, parse_arguments, write_report
from pycocotools.coco import COCO
from timing import growth

from mmbanet.datasets import PanopticDataset

TRAIN2017 = 118_287  # images, of which COCO has instances and segments:
INSTANCES, SEGMENTS, POINTS = 7.3, 11.2, 25  # a mean image's; points of a polygon
THINGS, STUFF = 80, 53
SIZE = 480, 640
OURS, TEST, THEIRS = 'PanopticDataset', 'PanopticDataset, test_mode', 'pycocotools, instances'


def main() -> None:
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--images', type=int, default=TRAIN2017, help='of the largest set')
    parser.add_argument('--rounds', type=int, default=3, help='the median counts')
    parser.add_argument('--load', nargs=2, metavar=('WHAT', 'FOLDER'), help=argparse.SUPPRESS)
    args = parse_arguments(parser, devices=('cpu',))
    if args.load:
        print(json.dumps(load(*args.load)))
        return

    rows = []
    for parts in (8, 4, 2, 1):
        images = args.images // parts
        with tempfile.TemporaryDirectory() as folder:
            make_annotations(Path(folder), images)
            figures = {name: [] for name in (OURS, TEST, THEIRS)}
            for _ in range(args.rounds):
                for name, found in figures.items():
                    found.append(measure(name, folder))
        for name, found in figures.items():
            seconds, gibibytes = (statistics.median(values) for values in zip(*found))
            rows.append(dict(images=images, what=name, seconds=seconds, gibibytes=gibibytes))
    report = make_report('cpu', rounds=args.rounds, rows=rows, exponents=exponents(rows))
    print(table(report))
    print(write_report(report, args.out, 'annotation_loading_cpu'))


def measure(what: str, folder: str) -> tuple[float, float]:
    """Core seconds of loading, and GiB that the process had at its peak beyond those before."""
    command = [sys.executable, __file__, '--load', what, folder]
    return tuple(json.loads(subprocess.check_output(command, text=True).splitlines()[-1]))


def load(what: str, folder: str) -> tuple[float, float]:
    """As :func:`measure`, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    if what == THEIRS:
        COCO(f'{folder}/instances.json')
    else:
        PanopticDataset(
            ann_file='panoptic.json',
            instances_ann_file='instances.json',
            data_root=folder,
            data_prefix=dict(img='', seg=''),
            metainfo=metainfo(),
            test_mode=what == TEST,
            pipeline=[],
        )
    seconds = time.process_time() - start
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20


def metainfo() -> dict:
    """The classes of the files that are made."""
    things, stuff = ([f'{kind} {i}' for i in range(n)] for kind, n in (('t', THINGS), ('s', STUFF)))
    return dict(classes=things + stuff, thing_classes=things, stuff_classes=stuff)


def make_annotations(folder: Path, images: int) -> None:
    """Writes ``panoptic.json`` and ``instances.json`` with so many images."""
    random = np.random.default_rng(0)
    height, width = SIZE
    categories = [
        dict(id=i + 1, name=name, isthing=int(i < THINGS))
        for i, name in enumerate(metainfo()['classes'])
    ]
    entries = [
        dict(id=i, file_name=f'{i:012}.jpg', height=height, width=width) for i in range(images)
    ]
    head = dict(images=entries, categories=categories)
    with open(folder / 'panoptic.json', 'w') as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for i in range(images):
            segments = [
                dict(id=j + 1, category_id=int(c), bbox=[8, 8, 99, 99], area=5000, iscrowd=0)
                for j, c in enumerate(random.integers(1, len(categories) + 1, _count(SEGMENTS, i)))
            ]
            entry = dict(image_id=i, file_name=f'{i:012}.png', segments_info=segments)
            file.write((', ' if i else '') + json.dumps(entry))
        file.write(']}')
    head['categories'] = categories[:THINGS]
    with open(folder / 'instances.json', 'w') as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for i in range(images):
            for j in range(_count(INSTANCES, i)):
                x, y = random.integers(0, (width - 100, height - 100))
                points = random.integers(0, 10_000, (POINTS, 2)) / 100 + (x, y)
                entry = dict(
                    id=i * 64 + j,
                    image_id=i,
                    category_id=int(random.integers(1, THINGS + 1)),
                    bbox=[int(x), int(y), 100, 100],
                    area=5000,
                    iscrowd=0,
                    segmentation=[points.round(2).ravel().tolist()],
                )
                file.write((', ' if i or j else '') + json.dumps(entry))
        file.write(']}')


def exponents(rows: list[dict]) -> dict[str, float]:
    """Growth of the time with the number of images."""
    found = {}
    for name in (OURS, TEST, THEIRS):
        points = [(row['images'], row['seconds']) for row in rows if row['what'] == name]
        found[name] = growth(*zip(*points))
    return found


def table(report: dict) -> str:
    """The report as Markdown."""
    lines = [
        "| images | loaded by | s of a core | of pycocotools' | peak, GiB | exponent |",
        '|---' * 6 + '|',
    ]
    for row in report['rows']:
        theirs = next(
            r['seconds']
            for r in report['rows']
            if r['images'] == row['images'] and r['what'] == THEIRS
        )
        lines.append(
            f'| {row["images"]} | {row["what"]} | {row["seconds"]:.1f} | '
            f'{row["seconds"] / theirs:.2f} | {row["gibibytes"]:.2f} | '
            f'{report["exponents"][row["what"]]:.2f} |'
        )
    return '\n'.join(lines)


def _count(mean: float, index: int) -> int:
    """Whole numbers with a mean, the same for each file: 7, 7, 8, 7, ..."""
    return int((index + 1) * mean) - int(index * mean)
