"""Annotations that are not as they must be, in all that reads them: refused by name, or said."""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, METRICS, init_default_scope
from panopticapi.utils import id2rgb

from mmbanet.datasets import PanopticAnnotations, annotation_files, coco_file, panoptic_dataset
from mmbanet.datasets.file_check import check_pngs, find_unreadable, images_of, pngs_of
from mmbanet.evaluation import panoptic_truth
from mmbanet.scenes.photographs.source import PhotographSource

from .broken_images import Bench
from .row import Outcome, Row, chosen, count

SIZE = 24, 32
CATEGORIES = [
    dict(id=5, name='cat', isthing=1),
    dict(id=2, name='dog', isthing=1),
    dict(id=9, name='sky', isthing=0),
]
META = dict(
    classes=('cat', 'dog', 'sky'),
    thing_classes=('cat', 'dog'),
    stuff_classes=('sky',),
    palette=None,
)
PANOPTIC, INSTANCES = 'panoptic_train.json', 'instances_train.json'
PNG, JPG = 'annotations/panoptic_train/1.png', 'train/1.jpg'

# Changes files below a folder, or the contents of the two JSON files; returns the text or the bytes
# to write in place of the panoptic one; anything else is not used.
Fault = Callable[[dict, dict, Path], Any]


class Kind(NamedTuple):
    """A kind of malformed annotation.

    Attributes:
        fault: What is done to an intact set.
        parts: What a message must have: the file, and the image or segment where it is one's.
        places: Names of the places that read what is wrong; all by default.
        at_start: Whether it is refused when the set is opened, before any image is read. What is
            wrong within a PNG is not, which costs decoding all of them.
    """

    fault: Fault
    parts: tuple[str, ...] = (PANOPTIC,)
    places: tuple[str, ...] = ('training', 'test', 'metrics', 'scenes')
    at_start: bool = True


def write_set(root: Path) -> tuple[dict, dict]:
    """Two images with a cat, a dog and sky in COCO's layout; the contents of the JSON files."""
    images, annotations, instances = [], [], []
    for folder in (JPG, PNG):
        (root / folder).parent.mkdir(parents=True)
    for image_id in (1, 2):
        ids = np.full(SIZE, 1003)
        ids[2:12, 3:15] = 1001
        ids[10:22, 18:30] = 1002
        ids[22:, :9] = 0  # void
        segments = []
        for segment_id, category in ((1001, 5), (1002, 2), (1003, 9)):
            rows, columns = (ids == segment_id).nonzero()
            x, y, w, h = (
                int(v) for v in (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
            )
            segments.append(
                dict(
                    id=segment_id,
                    category_id=category,
                    iscrowd=0,
                    area=len(rows),
                    bbox=[x, y, w, h],
                )
            )
            if category != 9:
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                instances.append(
                    dict(
                        id=len(instances) + 1,
                        image_id=image_id,
                        category_id=category,
                        iscrowd=0,
                        area=len(rows),
                        bbox=[x, y, w, h],
                        segmentation=[polygon],
                    )
                )
        pixels = np.random.default_rng(image_id).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str((root / JPG).with_stem(str(image_id))), pixels)
        cv2.imwrite(str((root / PNG).with_stem(str(image_id))), rgb(ids))
        images.append(dict(id=image_id, file_name=f'{image_id}.jpg', height=SIZE[0], width=SIZE[1]))
        annotations.append(
            dict(image_id=image_id, file_name=f'{image_id}.png', segments_info=segments)
        )
    things = [dict(id=c['id'], name=c['name']) for c in CATEGORIES if c['isthing']]
    panoptic = dict(images=images, annotations=annotations, categories=CATEGORIES)
    content = dict(images=images, annotations=instances, categories=things)
    return tuple(json.loads(json.dumps(part)) for part in (panoptic, content))


def write_broken(root: Path, fault: Fault) -> Path:
    """Writes a set with a fault into a folder, in place of what is there."""
    shutil.rmtree(root, ignore_errors=True)
    panoptic, instances = write_set(root)
    written = fault(panoptic, instances, root)
    if not isinstance(written, str | bytes):
        written = json.dumps(panoptic)
    written = written.encode() if isinstance(written, str) else written
    (root / 'annotations' / PANOPTIC).write_bytes(written)
    (root / 'annotations' / INSTANCES).write_text(json.dumps(instances))
    return root


def dataset(root: Path, test_mode: bool, with_instances: bool) -> Any:
    """The data set as a training or a test of an oracle opens it, whose pipeline reads all."""
    steps = ('mmbanet.LoadImage', 'mmbanet.LoadPanopticAnnotations', 'PackDetInputs')
    opened = DATASETS.build(
        dict(
            type='mmbanet.PanopticDataset',
            data_root=str(root),
            ann_file=f'annotations/{PANOPTIC}',
            instances_ann_file=f'annotations/{INSTANCES}' if with_instances else None,
            data_prefix=dict(img='train', seg='annotations/panoptic_train'),
            metainfo=META,
            pipeline=[dict(type=step) for step in steps],
            test_mode=test_mode,
        )
    )
    opened.check_files()
    return opened


def seen(opened: Any) -> list:
    """What a data set gives of its images: boxes, labels, masks and semantics."""
    found = []
    for index in range(len(opened)):
        sample = opened[index]['data_samples']
        things = sample.gt_instances
        parts = things.bboxes.tensor, things.labels, things.masks.masks, sample.gt_sem_seg.sem_seg
        found.append([np.asarray(part).tolist() for part in parts])
    return found


def metrics(root: Path, with_instances: bool) -> list:
    """All metrics, as an evaluator opens them."""
    annotations = root / 'annotations'
    paths = dict(
        ann_file=str(annotations / PANOPTIC), seg_prefix=str(annotations / 'panoptic_train')
    )
    configs = [dict(type='mmbanet.PanopticMetric', **paths)]
    configs.append(dict(type='mmbanet.PanopticInstanceMetric', **paths))
    if with_instances:
        instances = str(annotations / INSTANCES)
        configs.append(dict(type='mmbanet.PanopticInstanceMetric', ann_file=instances))
        configs.append(dict(type='mmbanet.OcclusionMetric', instances_ann_file=instances, **paths))
    built = [METRICS.build(config) for config in configs]
    for metric in built:
        metric.dataset_meta = META
        if hasattr(metric, 'check_files'):
            metric.check_files()
    return built


def scores(built: list) -> dict[str, float]:
    """Of a prediction that is wrong in part, the same for every set."""
    ids = np.full(SIZE, 2)
    ids[2:12, 3:13] = 1000
    ids[10:22, 18:28] = 2001
    masks = torch.from_numpy(np.stack([ids == 1000, ids == 2001]))
    found = {}
    for metric in built[:2]:
        for image_id in (1, 2):
            instances = dict(
                masks=masks, labels=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.8])
            )
            panoptic = dict(sem_seg=torch.from_numpy(ids)[None])
            sample = dict(img_id=image_id, pred_panoptic_seg=panoptic, pred_instances=instances)
            metric.process({}, [sample])
        found.update(metric.evaluate(2))
    return found


def photographs(root: Path, with_instances: bool) -> PhotographSource:
    """What ``tools/reproduce.py`` composes scenes of."""
    return PhotographSource(root, 'train')


# How each opens a set, and what it makes of it then.
PLACES: dict[str, tuple[Callable[[Path, bool], Any], Callable[[Any], Any]]] = {
    'training': (lambda root, instances: dataset(root, False, instances), seen),
    'test': (lambda root, instances: dataset(root, True, instances), seen),
    'metrics': (metrics, scores),
    'scenes': (photographs, lambda source: [source.load(i).labels(np.s_[:, :]) for i in (0, 1)]),
}


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """What is said of files while it lasts."""
    messages = []

    def record(message: str, **_: Any) -> None:
        if 'without instances_ann_file' not in message:  # said of every set without them
            messages.append(message)

    with (
        mock.patch.object(annotation_files, 'print_log', record),
        mock.patch.object(panoptic_dataset, 'print_log', record),
    ):
        yield messages


def problem(kind: Kind, root: Path, place: str) -> str | None:
    """What is wrong with how a place refuses a kind; None if nothing is."""
    init_default_scope('mmdet')
    write_broken(root, kind.fault)
    opens, uses = PLACES[place]
    with heard():
        try:
            opened = opens(root, place in ('training', 'metrics'))
            if kind.at_start:
                return f'{place}: opened'
            uses(opened)
        except (ValueError, OSError) as error:
            missing = [part for part in kind.parts if not re.search(part, str(error))]
            return f'{place}: does not say {missing}: {error}' if missing else None
        except Exception as error:
            return f'{place}: {type(error).__name__}: {error}'
    return f'{place}: not refused'


def edit(where: Callable, **values: Any) -> Fault:
    """Sets keys of a part of the panoptic content; ``...`` removes them."""

    def fault(panoptic: dict, instances: dict, root: Path) -> None:
        part = where(panoptic)
        for key, value in values.items():
            if value is ...:
                del part[key]
            else:
                part[key] = value

    return fault


def of_instances(fault: Fault) -> Fault:
    """The same of the instances' content."""
    return lambda panoptic, instances, root: fault(instances, panoptic, root)


def append(where: Callable, **changes: Any) -> Fault:
    """Appends a changed copy of a list's first entry."""

    def fault(panoptic: dict, instances: dict, root: Path) -> None:
        entries = where(panoptic)
        entries.append({**entries[0], **changes})

    return fault


def text(change: Callable[[str], str | bytes]) -> Fault:
    """Changes the text of the panoptic file."""
    return lambda panoptic, instances, root: change(json.dumps(panoptic))


def file(change: Callable[[bytes], bytes], name: str = PNG) -> Fault:
    """Replaces the bytes of a file."""

    def fault(panoptic: dict, instances: dict, root: Path) -> None:
        path = root / name
        path.write_bytes(change(path.read_bytes()))

    return fault


def encode(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    """Writes the first PNG anew from its ids (H, W)."""

    def fault(panoptic: dict, instances: dict, root: Path) -> None:
        ids = cv2.imread(str(root / PNG)).astype(int) @ [65536, 256, 1]
        cv2.imwrite(str(root / PNG), change(ids))

    return fault


def whole(content: dict) -> dict:
    """All of a file."""
    return content


def image(content: dict) -> dict:
    """The first image."""
    return content['images'][0]


def annotation(content: dict) -> dict:
    """The first annotation, of the first image."""
    return content['annotations'][0]


def segment(content: dict) -> dict:
    """The first segment, a cat."""
    return content['annotations'][0]['segments_info'][0]


def category(content: dict) -> dict:
    """The first category, of the cats."""
    return content['categories'][0]


def rgb(ids: np.ndarray) -> np.ndarray:
    """A map of ids as OpenCV writes it."""
    return id2rgb(ids)[..., ::-1]


def _deep(content: str) -> str:
    return '[' * 200_000


IMAGE = (PANOPTIC, 'image 1')
SEGMENT = (*IMAGE, 'segment 1001')
OF_PNG = (r'1\.png', 'image 1')
CATEGORY = (PANOPTIC, 'category (0|5)')
ANNOTATED = ('training', 'metrics', 'scenes')
LABELLED = ('training', 'test', 'metrics')  # the scenes' classes are those of the file

REFUSED: dict[str, Kind] = {
    **{f'no {k}': Kind(edit(whole, **{k: ...})) for k in ('images', 'categories')},
    **{f'empty {k}': Kind(edit(whole, **{k: []})) for k in ('images', 'categories')},
    **{  # a test may be of images without annotations
        f'annotations {v!r}': Kind(edit(whole, annotations=v), places=ANNOTATED) for v in (..., [])
    },
    **{f'{key} a dict': Kind(edit(whole, **{key: {}})) for key in ('images', 'annotations')},
    **{
        f'image without {k}': Kind(edit(image, **{k: ...}), (PANOPTIC, '"images"|image 1'))
        for k in ('id', 'file_name', 'height', 'width')
    },
    **{
        f'height {value!r:.9}': Kind(edit(image, height=value), IMAGE)
        for value in ('24', 0, -24, 24.5, math.nan, 10**400, None)
    },
    'width wrong': Kind(edit(image, width=31), ('image 1',)),
    'height wrong': Kind(edit(image, height=25), ('image 1',)),
    'file_name a number': Kind(edit(image, file_name=1), IMAGE),
    'file_name with a NUL': Kind(edit(image, file_name='1.jpg\0'), IMAGE),
    'duplicate image': Kind(append(lambda c: c['images']), IMAGE),
    'image an id': Kind(edit(whole, images=[1, 2]), (PANOPTIC, '"images"')),
    **{
        f'annotation without {k}': Kind(edit(annotation, **{k: ...}), (PANOPTIC, '"annot|image 1'))
        for k in ('image_id', 'file_name', 'segments_info')
    },
    **{
        f'image_id {value!r}': Kind(edit(annotation, image_id=value), (PANOPTIC, 'entry 0'))
        for value in ('1', None, 77, 1.5)
    },
    'duplicate annotation': Kind(append(lambda c: c['annotations']), IMAGE),
    **{
        f'segments_info {value!r}': Kind(edit(annotation, segments_info=value), IMAGE)
        for value in ({}, None, [1001])
    },
    'file_name of no PNG': Kind(edit(annotation, file_name='gone.png'), (r'gone\.png', 'image 1')),
    'segment without id': Kind(edit(segment, id=...), (*IMAGE, 'segment 0')),
    **{
        f'segment id {value!r}': Kind(edit(segment, id=value), (*IMAGE, 'segment 0'))
        for value in (0, -1, '1001', 1001.5, None, 2**24)
    },
    'duplicate segment': Kind(append(lambda c: annotation(c)['segments_info']), SEGMENT),
    'no category_id': Kind(edit(segment, category_id=...), SEGMENT),
    **{
        f'category_id {value!r:.9}': Kind(edit(segment, category_id=value), SEGMENT)
        for value in (77, '5', None, [5], 10**30)
    },
    **{
        f'iscrowd {value!r}': Kind(edit(segment, iscrowd=value), SEGMENT)
        for value in ('no', 2, None, [])
    },
    **{
        f'area {value!r:.9}': Kind(edit(segment, area=value), SEGMENT)
        for value in ('120', [120], {}, 10**400)
    },
    **{
        f'bbox {value!r:.9}': Kind(edit(segment, bbox=value), SEGMENT)
        for value in ([3, 2, 12], '3,2', [3, 2, 12, 'x'], {}, [10**400, 2, 3, 4])
    },
    **{
        f'category without {key}': Kind(edit(category, **{key: ...}), CATEGORY)
        for key in ('id', 'name', 'isthing')
    },
    **{
        f'isthing {value!r}': Kind(edit(category, isthing=value), CATEGORY)
        for value in (2, 'yes', None)
    },
    'isthing wrong': Kind(edit(category, isthing=0), (PANOPTIC, '"cat"'), LABELLED),
    'name unknown': Kind(edit(category, name='cow'), (PANOPTIC, 'cow'), LABELLED),
    'name a number': Kind(edit(category, name=7), CATEGORY),
    'category id 10**30': Kind(edit(category, id=10**30), CATEGORY),
    'duplicate category id': Kind(edit(category, id=2), (PANOPTIC, 'category 2')),
    'duplicate category name': Kind(edit(category, name='dog'), (PANOPTIC, '"dog"')),
    'category missing': Kind(edit(whole, categories=CATEGORIES[:2]), SEGMENT[:2]),
    'JSON cut off': Kind(text(lambda s: s[:200])),
    'JSON empty': Kind(text(lambda s: '')),
    'JSON a list': Kind(text(lambda s: f'[{s}]')),
    'JSON null': Kind(text(lambda s: 'null')),
    'JSON in Latin-1': Kind(text(lambda s: s.replace('"cat"', '"chät"').encode('latin-1'))),
    'JSON with NULs': Kind(text(lambda s: s[:200] + '\0' * 200)),
    'JSON too deep': Kind(text(_deep)),
    'JSON a pointer': Kind(text(lambda s: 'version https://git-lfs.github.com/spec/v1\n')),
    'PNG cut off': Kind(file(lambda b: b[: len(b) // 2]), OF_PNG),
    'PNG without its end': Kind(file(lambda b: b[:-12]), OF_PNG),
    'PNG cut off in the header': Kind(file(lambda b: b[:20]), OF_PNG),
    'PNG empty': Kind(file(lambda b: b''), (r'1\.png',)),
    'PNG a text': Kind(file(lambda b: b'no picture'), OF_PNG),
    'PNG a pointer': Kind(file(lambda b: b'version https://git-lfs.github.com/spec/v1\n'), OF_PNG),
    'PNG grey': Kind(encode(lambda ids: ids.astype(np.uint8)), OF_PNG),
    'PNG of 16 bits': Kind(encode(lambda ids: ids.astype(np.uint16)), OF_PNG),
    'PNG of another size': Kind(encode(lambda ids: rgb(ids[:-1])), OF_PNG),
    'PNG damaged': Kind(file(lambda b: b[:60] + bytes(16) + b[76:]), OF_PNG, at_start=False),
    'PNG in the wrong order': Kind(encode(id2rgb), OF_PNG, LABELLED, at_start=False),
    'PNG of labels': Kind(encode(lambda ids: rgb(ids - 1000)), OF_PNG, LABELLED, at_start=False),
}

# Of what only those read that read photographs.
PHOTOGRAPHS = ('training', 'test', 'scenes')
OF_JPG = (r'1\.jpg', 'image 1')
REFUSED_IMAGES: dict[str, Kind] = {
    'image empty': Kind(file(lambda b: b'', JPG), OF_JPG, PHOTOGRAPHS),
    'image a text': Kind(file(lambda b: b'no picture', JPG), OF_JPG, PHOTOGRAPHS),
    'image cut off': Kind(file(lambda b: b[: len(b) // 2], JPG), (r'1\.jpg',), PHOTOGRAPHS),
    'image cut off in the header': Kind(file(lambda b: b[:20], JPG), OF_JPG, PHOTOGRAPHS),
    'image of another size': Kind(
        file(lambda b: cv2.imencode('.jpg', np.zeros((9, 9, 3)))[1].tobytes(), JPG),
        OF_JPG,
        PHOTOGRAPHS,
    ),
    'image missing': Kind(lambda *args: (args[2] / JPG).unlink(), OF_JPG, PHOTOGRAPHS),
}

WITH_INSTANCES = ('training', 'metrics')
OF_INSTANCES = (INSTANCES, 'image 1', 'annotation 1')


def _rle(counts: Any, size: Any = SIZE) -> Fault:
    return of_instances(edit(annotation, segmentation=dict(size=list(size), counts=counts)))


REFUSED_INSTANCES: dict[str, Kind] = {
    name: kind._replace(places=WITH_INSTANCES)
    for name, kind in {
        **{
            f'{name} of instances': Kind(of_instances(fault), (INSTANCES,))
            for name, fault in {
                'no annotations': edit(whole, annotations=...),
                'empty categories': edit(whole, categories=[]),
                'images missing': lambda content, *_: content['images'].pop(),
                'category missing': lambda content, *_: content['categories'].pop(),
                'another name': edit(category, name='cow'),
                'another size': edit(image, height=25),
                'another image': edit(image, file_name='other.jpg'),
            }.items()
        },
        **{
            f'instance {key} {value!r:.16}': Kind(
                of_instances(edit(annotation, **{key: value})), parts
            )
            for key, value, parts in (
                ('id', ..., (INSTANCES, 'entry 0')),
                ('id', 2, (INSTANCES, 'annotation 2')),
                ('image_id', 77, (INSTANCES, 'annotation 1')),
                ('category_id', 9, OF_INSTANCES),
                ('category_id', ..., OF_INSTANCES),
                ('iscrowd', 'no', OF_INSTANCES),
                ('segmentation', ..., OF_INSTANCES),
                ('segmentation', [], OF_INSTANCES),
                ('segmentation', 'no', OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 10]], OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 2, 12]], OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 2, 12, math.nan]], OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 2, 12, math.inf]], OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 2, 12, 10**400]], OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 2, 12, '9']], OF_INSTANCES),
                ('segmentation', [[3, 2, 12, 2, 1e9, 12]], OF_INSTANCES),
                ('bbox', [3, 2, 12], OF_INSTANCES),
                ('bbox', [3, 2, math.nan, 10], OF_INSTANCES),
                ('bbox', [3, 2, -12, 10], OF_INSTANCES),
                ('bbox', [300, 200, 12, 10], OF_INSTANCES),
                ('bbox', [10**400, 2, 12, 10], OF_INSTANCES),
            )
        },
        'RLE of another size': Kind(_rle([768], (32, 24)), OF_INSTANCES),
        'RLE too short': Kind(_rle([5, 10]), OF_INSTANCES),
        'RLE too long': Kind(_rle([5, 10**9]), OF_INSTANCES),
        'RLE negative': Kind(_rle([800, -32]), OF_INSTANCES),
        'RLE of garbage': Kind(_rle('garbage\n'), OF_INSTANCES),
        'RLE of a number': Kind(_rle(5), OF_INSTANCES),
        'RLE without counts': Kind(
            of_instances(edit(annotation, segmentation=dict(size=[24, 32]))), OF_INSTANCES
        ),
    }.items()
}

# Figures stay those of the intact set, and it is said what was computed anew.
MENDED: dict[str, Fault] = {
    **{f'no {key}': edit(segment, **{key: ...}) for key in ('area', 'bbox')},
    **{f'area {v}': edit(segment, area=v) for v in (0, -5, None, math.nan, math.inf)},
    **{
        f'bbox {v}': edit(segment, bbox=v)
        for v in (None, [3, 2, 0, 10], [3, 2, -12, -10], [3, 2, math.nan, 10], [0, 0, 0, 0])
    },
}
# The same figures as panopticapi's, or fewer data, but not in silence.
SAID: dict[str, Fault] = {
    'area times 10': edit(segment, area=1200),
    'image without annotation': lambda panoptic, *_: panoptic['annotations'].pop(),
    'segment missing in the JSON': lambda panoptic, *_: annotation(panoptic)['segments_info'].pop(
        0
    ),
    'segment missing in the PNG': encode(lambda ids: rgb(np.where(ids == 1001, 1003, ids))),
}


def _of_json(kind: str, fault: Fault) -> Callable[[Path, str], object]:
    """A fault in a JSON file of a split."""

    def change(root: Path, split: str) -> None:
        path = root / 'annotations' / f'{kind}_{split}.json'
        content = json.loads(path.read_text())
        written = fault(content, {}, root)
        path.write_text(written if isinstance(written, str) else json.dumps(content))

    return change


def _cut_png(root: Path, split: str) -> None:
    path = sorted((root / 'annotations' / f'panoptic_{split}').iterdir())[0]
    path.write_bytes(path.read_bytes()[:-20])


# What the tools themselves say of scenes: a change of the folder, and what is in the line.
IN_TOOLS: dict[str, tuple[Callable[[Path, str], object], tuple[str, ...]]] = {
    'JSON cut off': (_of_json('panoptic', text(lambda s: s[:200])), ('/panoptic_', '.json')),
    'no height': (_of_json('panoptic', edit(image, height=...)), ('/panoptic_', 'image ')),
    'category_id 77': (
        _of_json('panoptic', edit(segment, category_id=77)),
        ('/panoptic_', 'image ', 'segment ', 'category_id 77'),
    ),
    'PNG cut off': (_cut_png, ('.png', 'image ', 'cut off')),
}
# Only training reads the masks of instances.
IN_TRAINING = {
    'RLE too short': (
        _of_json('instances', edit(annotation, segmentation=dict(size=[64, 64], counts=[5]))),
        ('/instances_', 'image ', 'annotation '),
    ),
}


def intact(panoptic: dict, instances: dict, root: Path) -> None:
    """No fault."""


def outcome(root: Path, place: str, fault: Fault) -> tuple[Any, list[str]]:
    """What a place makes of a set without instances, and what is said meanwhile."""
    init_default_scope('mmdet')
    write_broken(root, fault)
    opens, uses = PLACES[place]
    with heard() as messages:
        return uses(opens(root, False)), messages


def changed(root: Path, place: str, fault: Fault, is_mended: bool) -> str | None:
    """What is wrong with how a place mends, or says, a fault; None if nothing is."""
    expected, before = outcome(root, place, intact)
    found, messages = outcome(root, place, fault)
    if before:
        return f'{place}: of the intact set it is said: {before[0]}'
    if is_mended and found != expected:
        return f'{place}: not as of the intact set'
    if not messages and (is_mended or found != expected):
        return f'{place}: nothing is said'
    unnamed = [message for message in messages if not re.search(r'\.json|\.png', message)]
    return f'{place}: names no file: {unnamed[0]}' if unnamed else None


def minutes_of_coco(root: Path, count: int = 2000) -> float:
    """That the look at COCO's 118,287 training images and PNGs takes, from files of their sizes."""
    panoptic, _ = write_set(root)
    pixels = cv2.resize(
        np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8), (640, 480)
    )
    photo = cv2.imencode('.jpg', pixels)[1].tobytes()
    png = cv2.imencode('.png', rgb(np.arange(480 * 640).reshape(480, 640) // 16384 + 1))[1]
    size = dict(height=480, width=640)
    panoptic['images'] = [dict(id=i, file_name=f'{i}.jpg', **size) for i in range(count)]
    panoptic['annotations'] = [
        dict(image_id=i, file_name=f'{i}.png', segments_info=[]) for i in range(count)
    ]
    for i in range(count):
        (root / JPG).with_stem(str(i)).write_bytes(photo)
        (root / PNG).with_stem(str(i)).write_bytes(png.tobytes())
    path = root / 'annotations' / PANOPTIC
    path.write_text(json.dumps(panoptic))
    annotations = PanopticAnnotations(str(path))
    start = time.monotonic()
    images, pngs = (str((root / name).parent) for name in (JPG, PNG))
    find_unreadable(images_of(annotations, images), images, True, annotations.notices)
    check_pngs(pngs_of(annotations, pngs), pngs, str(path), annotations.notices)
    return (time.monotonic() - start) / count * 118_287 / 60


def run(cases: int | str, folder: Path) -> Outcome:
    """Every kind in all places that read it."""

    def refuses(kind: Kind) -> str | None:
        return next(filter(None, (problem(kind, folder / 'set', p) for p in kind.places)), None)

    def says(fault: Fault, is_mended: bool) -> str | None:
        found = (
            changed(folder / 'set', place, fault, is_mended) for place in ('training', 'metrics')
        )
        return next(filter(None, found), None)

    kinds = REFUSED | REFUSED_IMAGES | REFUSED_INSTANCES
    named = [(name, partial(refuses, kind)) for name, kind in kinds.items()]
    named += [(name, partial(says, fault, True)) for name, fault in MENDED.items()]
    named += [(name, partial(says, fault, False)) for name, fault in SAID.items()]
    bench = Bench(folder / 'tools')
    named += [
        (f'{name}, {tool}', partial(bench.refusal, tool, change, *parts))
        for tool, faults in (('train.py', IN_TOOLS | IN_TRAINING), ('test.py', IN_TOOLS))
        for name, (change, parts) in faults.items()
    ]
    found = count(chosen(named, cases))
    if found.cases < len(named):
        return found
    minutes = minutes_of_coco(folder / 'many')
    return found._replace(note=f"the look at COCO's 118,287 images takes {minutes:.1f} min")


def _unchecked() -> contextlib.AbstractContextManager:
    """JSON is used as it is."""
    return mock.patch.object(coco_file, 'check')


@contextlib.contextmanager
def _files_not_looked_at() -> Iterator[None]:
    """Images and PNGs are read when their turn comes."""
    with (
        mock.patch.object(panoptic_dataset, 'check_pngs'),
        mock.patch.object(panoptic_dataset, 'find_unreadable', return_value={}),
        mock.patch.object(panoptic_truth, 'check_pngs'),
    ):
        yield


ROW = Row(
    'malformed-annotations',
    'one line that names the file, and the image or segment, before the first iteration (what is '
    'wrong within a PNG: when it is read); no figure changes in silence',
    157,
    run,
    {'checks-of-json': _unchecked, 'look-at-files': _files_not_looked_at},
)
