"""Malformed panoptic sets: refused by name, or mended and said so, in training and evaluation."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, METRICS
from panopticapi.utils import id2rgb

from mmbanet.datasets import annotation_files

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
SIZE = 24, 32
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations'),
    dict(type='PackDetInputs'),
]


def write_set(root):
    """Two images with a cat, a dog and sky; returns the content of the JSON file."""
    images, annotations = [], []
    for image_id in (1, 2):
        ids = np.full(SIZE, 1003)
        ids[2:12, 3:15] = 1001
        ids[10:22, 18:30] = 1002
        ids[22:, :9] = 0  # void
        segments = []
        for segment_id, category in ((1001, 5), (1002, 2), (1003, 9)):
            rows, columns = (ids == segment_id).nonzero()
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            box = [int(value) for value in box]
            segments.append(
                dict(id=segment_id, category_id=category, iscrowd=0, area=len(rows), bbox=box)
            )
        for folder in ('img', 'seg'):
            (root / folder).mkdir(exist_ok=True)
        pixels = np.random.default_rng(image_id).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(root / 'img' / f'{image_id}.jpg'), pixels)
        cv2.imwrite(str(root / 'seg' / f'{image_id}.png'), id2rgb(ids)[..., ::-1])
        name = f'{image_id}.jpg'
        images.append(dict(id=image_id, file_name=name, height=SIZE[0], width=SIZE[1]))
        annotations.append(
            dict(image_id=image_id, file_name=f'{image_id}.png', segments_info=segments)
        )
    return dict(images=images, annotations=annotations, categories=CATEGORIES)


def train(root):
    """What training sees of the images: boxes, masks and semantics."""
    dataset = DATASETS.build(
        dict(
            type='mmbanet.PanopticDataset',
            data_root=str(root),
            ann_file='panoptic.json',
            data_prefix=dict(img='img', seg='seg'),
            metainfo=META,
            pipeline=PIPELINE,
        )
    )
    seen = []
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        things = sample.gt_instances
        parts = things.bboxes.tensor, things.labels, things.masks.masks, sample.gt_sem_seg.sem_seg
        seen.append([np.asarray(part).tolist() for part in parts])
    return seen


def evaluate(root):
    """PQ and AP of a prediction that is wrong in part, the same for every set."""
    ids = np.full(SIZE, 2)
    ids[2:12, 3:13] = 1000
    ids[10:22, 18:28] = 2001
    masks = torch.from_numpy(np.stack([ids == 1000, ids == 2001]))
    scores = {}
    for name in ('PanopticMetric', 'PanopticInstanceMetric'):
        paths = dict(ann_file=str(root / 'panoptic.json'), seg_prefix=str(root / 'seg'))
        metric = METRICS.build(dict(type=f'mmbanet.{name}', **paths))
        metric.dataset_meta = META
        for image_id in (1, 2):
            instances = dict(
                masks=masks, labels=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.8])
            )
            panoptic = dict(sem_seg=torch.from_numpy(ids)[None])
            sample = dict(img_id=image_id, pred_panoptic_seg=panoptic, pred_instances=instances)
            metric.process({}, [sample])
        scores.update(metric.evaluate(2))
    return scores


def edit(where, **values):
    """Sets keys of a part of the content; ``...`` removes them."""

    def fault(content, root):
        part = where(content)
        for key, value in values.items():
            if value is ...:
                del part[key]
            else:
                part[key] = value

    return fault


def text(change):
    """Changes the JSON file's text."""

    def fault(content, root):
        return change(json.dumps(content))

    return fault


def png(change, name='seg/1.png'):
    """Replaces the bytes of a file."""

    def fault(content, root):
        path = root / name
        path.write_bytes(change(path.read_bytes()))

    return fault


def encode(change):
    """Writes the first PNG anew from its ids (H, W)."""

    def fault(content, root):
        ids = cv2.imread(str(root / 'seg/1.png')).astype(int) @ [65536, 256, 1]
        cv2.imwrite(str(root / 'seg/1.png'), change(ids))

    return fault


def whole(content):
    return content


def image(content):
    return content['images'][0]


def annotation(content):
    return content['annotations'][0]


def segment(content):
    return content['annotations'][0]['segments_info'][0]


def category(content):
    return content['categories'][0]


def append(where, **changes):
    """Appends a changed copy of the list's first entry."""

    def fault(content, root):
        entries = where(content)
        entries.append({**entries[0], **changes})

    return fault


def rgb(ids):
    return id2rgb(ids)[..., ::-1]


REFUSED = {
    **{f'no {key}': edit(whole, **{key: ...}) for key in ('images', 'annotations', 'categories')},
    **{f'empty {key}': edit(whole, **{key: []}) for key in ('images', 'annotations', 'categories')},
    **{f'{key} a dict': edit(whole, **{key: {}}) for key in ('images', 'annotations')},
    **{
        f'image without {k}': edit(image, **{k: ...})
        for k in ('id', 'file_name', 'height', 'width')
    },
    'height a text': edit(image, height='24'),
    'width zero': edit(image, width=0),
    'width wrong': edit(image, width=31),
    'height wrong': edit(image, height=25),
    'file_name a number': edit(image, file_name=1),
    'duplicate image': append(lambda c: c['images']),
    'image an id': edit(lambda c: c, images=[1, 2]),
    **{
        f'annotation without {key}': edit(annotation, **{key: ...})
        for key in ('image_id', 'file_name', 'segments_info')
    },
    'image_id a text': edit(annotation, image_id='1'),
    'image_id null': edit(annotation, image_id=None),
    'annotation of an unlisted image': edit(annotation, image_id=77),
    'duplicate annotation': append(lambda c: c['annotations']),
    'segments_info a dict': edit(annotation, segments_info={}),
    'segments_info null': edit(annotation, segments_info=None),
    'segments are numbers': edit(annotation, segments_info=[1001]),
    'file_name of no PNG': edit(annotation, file_name='nowhere.png'),
    'segment without id': edit(segment, id=...),
    **{f'id {value!r}': edit(segment, id=value) for value in (0, -1, '1001', 1001.5, None, 2**24)},
    'duplicate segment': append(lambda c: annotation(c)['segments_info']),
    'no category_id': edit(segment, category_id=...),
    **{f'category_id {v!r}': edit(segment, category_id=v) for v in (77, '5', None, [5])},
    'iscrowd a text': edit(segment, iscrowd='no'),
    'iscrowd 2': edit(segment, iscrowd=2),
    **{f'area {value!r}': edit(segment, area=value) for value in ('120', [120], {})},
    **{f'bbox {v!r}': edit(segment, bbox=v) for v in ([3, 2, 12], '3,2', [3, 2, 12, 'x'], {})},
    **{f'category without {k}': edit(category, **{k: ...}) for k in ('id', 'name', 'isthing')},
    **{f'isthing {value!r}': edit(category, isthing=value) for value in (2, 'yes', None)},
    'isthing wrong': edit(category, isthing=0),
    'name unknown': edit(category, name='cow'),
    'name a number': edit(category, name=7),
    'duplicate category id': edit(category, id=2),
    'duplicate category name': edit(category, name='dog'),
    'category missing': edit(whole, categories=CATEGORIES[:2]),
    'JSON cut off': text(lambda s: s[:200]),
    'JSON empty': text(lambda s: ''),
    'JSON a list': text(lambda s: f'[{s}]'),
    'JSON null': text(lambda s: 'null'),
    'JSON in Latin-1': text(lambda s: s.replace('"cat"', '"chät"').encode('latin-1')),
    'JSON too deep': text(lambda s: '[' * 200_000),
    'JSON a pointer': text(lambda s: 'version https://git-lfs.github.com/spec/v1\n'),
    'PNG cut off': png(lambda b: b[: len(b) // 2]),
    'PNG cut off in the header': png(lambda b: b[:20]),
    'PNG empty': png(lambda b: b''),
    'PNG a text': png(lambda b: b'no picture'),
    'PNG a pointer': png(lambda b: b'version https://git-lfs.github.com/spec/v1\n'),
    'PNG damaged': png(lambda b: b[:60] + bytes(16) + b[76:]),
    'PNG grey': encode(lambda ids: ids.astype(np.uint8)),
    'PNG of 16 bits': encode(lambda ids: ids.astype(np.uint16)),
    'PNG in the wrong order': encode(id2rgb),
    'PNG of labels': encode(lambda ids: rgb(ids - 1000)),
    'PNG of another size': encode(lambda ids: rgb(ids[:-1])),
}
# Those that only training reads.
REFUSED_IN_TRAINING = {
    'image empty': png(lambda b: b'', 'img/1.jpg'),
    'image a text': png(lambda b: b'no picture', 'img/1.jpg'),
    'image cut off in the header': png(lambda b: b[:20], 'img/1.jpg'),
    'image of another size': png(
        lambda b: cv2.imencode('.jpg', np.zeros((9, 9, 3), np.uint8))[1].tobytes(), 'img/1.jpg'
    ),
}
MENDED = {
    **{f'no {key}': edit(segment, **{key: ...}) for key in ('area', 'bbox')},
    **{f'area {v}': edit(segment, area=v) for v in (0, -5, None, math.nan, math.inf)},
    **{
        f'bbox {v}': edit(segment, bbox=v)
        for v in (None, [3, 2, 0, 10], [3, 2, -12, -10], [3, 2, math.nan, 10], [0, 0, 0, 0])
    },
}
# The same figures as panopticapi's, or fewer data, but not in silence.
SAID = {
    'area times 10': edit(segment, area=1200),
    'image without annotation': lambda content, root: content['annotations'].pop(),
    'segment missing in the JSON': lambda c, root: annotation(c)['segments_info'].pop(0),
    'segment missing in the PNG': encode(lambda ids: rgb(np.where(ids == 1001, 1003, ids))),
}


@pytest.fixture
def said(monkeypatch):
    """What is logged as a warning."""
    messages = []

    def record(message, **_):
        if 'without instances_ann_file' not in message:  # said of every set here, intact or not
            messages.append(message)

    monkeypatch.setattr(annotation_files, 'print_log', record)
    return messages


@pytest.fixture
def broken(tmp_path):
    """Writes a set with a fault."""

    def write(fault):
        content = json.loads(json.dumps(write_set(tmp_path)))
        written = fault(content, tmp_path)
        if not isinstance(written, str | bytes):
            written = json.dumps(content)
        written = written.encode() if isinstance(written, str) else written
        (tmp_path / 'panoptic.json').write_bytes(written)
        return tmp_path

    return write


def intact(content, root):
    """No fault."""


@pytest.mark.parametrize('name', REFUSED)
@pytest.mark.parametrize('run', [train, evaluate])
def test_refused_with_the_files_name(broken, name, run):
    with pytest.raises((ValueError, FileNotFoundError), match=r'panoptic\.json|\.png|\.jpg'):
        run(broken(REFUSED[name]))


@pytest.mark.parametrize('name', REFUSED_IN_TRAINING)
def test_images_are_refused_with_the_files_name(broken, name):
    with pytest.raises(ValueError, match=r'1\.jpg'):
        train(broken(REFUSED_IN_TRAINING[name]))


@pytest.mark.parametrize('name', MENDED)
@pytest.mark.parametrize('run', [train, evaluate])
def test_mended_to_the_intact_set_and_said(broken, said, name, run):
    expected = run(broken(intact))
    assert not said
    assert run(broken(MENDED[name])) == expected
    assert any('panoptic.json' in message for message in said)


@pytest.mark.parametrize('name', SAID)
@pytest.mark.parametrize('run', [train, evaluate])
def test_what_changes_the_outcome_is_said(broken, said, name, run):
    expected = run(broken(intact))
    assert not said
    changed = run(broken(SAID[name])) != expected
    assert bool(said) or not changed
    assert changed or run is train  # each of them shows in evaluation
    assert all('panoptic.json' in message or '.png' in message for message in said)


def test_a_box_that_the_png_contradicts(broken, said):
    expected = train(broken(intact))
    assert train(broken(edit(segment, bbox=[0, 0, 5, 5]))) == expected
    assert any('1.png' in message for message in said)


def test_a_byte_order_mark_does_no_harm(broken, said):
    expected = train(broken(intact))
    assert train(broken(text(lambda s: b'\xef\xbb\xbf' + s.encode()))) == expected
    assert not said


def test_a_large_png_is_not_decoded(broken, monkeypatch):
    root = broken(encode(lambda ids: np.zeros((900, 900, 3), np.uint8)))
    monkeypatch.setattr(annotation_files.cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    with pytest.raises(ValueError, match=r'1\.png: .*900x900 pixels .* says 24x32'):
        evaluate(root)
