"""Overlapping instance masks beside panoptic semantics: a tie that lies on a person, as in COCO."""

import json
import os.path as osp
import pickle
import re

import cv2
import numpy as np
import pytest
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from panopticapi.utils import id2rgb

HEIGHT, WIDTH = 30, 40
METAINFO = dict(
    classes=('person', 'tie', 'sky'),
    thing_classes=('person', 'tie'),
    stuff_classes=('sky',),
    palette=[(0, 0, 0)] * 3,
)
CATEGORIES = [
    dict(id=1, name='person', isthing=1),
    dict(id=32, name='tie', isthing=1),
    dict(id=187, name='sky', isthing=0),
]
# y1, y2, x1, x2 in pixels
PERSON, TIE, CROWD = (2, 28, 4, 24), (8, 20, 12, 16), (5, 15, 30, 38)


def region(y1, y2, x1, x2) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def polygon(y1, y2, x1, x2) -> list[list[float]]:
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def uncompressed(mask) -> dict:
    """COCO's form for crowds: lengths of runs, column by column, from a run of 0 on."""
    flat = mask.T.ravel().astype(int)
    starts = np.flatnonzero(np.diff(flat, prepend=0))
    return dict(size=[HEIGHT, WIDTH], counts=np.diff([0, *starts, flat.size]).tolist())


def box(y1, y2, x1, x2) -> list[int]:
    return [x1, y1, x2 - x1, y2 - y1]


def panoptic() -> dict:
    """Two images: person with tie beside a crowd, and nothing but sky."""
    segments = [
        dict(id=300, category_id=1, iscrowd=0, bbox=box(*PERSON)),
        dict(id=20, category_id=32, iscrowd=0, bbox=box(*TIE)),
        dict(id=70000, category_id=1, iscrowd=1, bbox=box(*CROWD)),
        dict(id=5, category_id=187, iscrowd=0, bbox=[0, 0, WIDTH, HEIGHT]),
    ]
    return dict(
        images=images(),
        annotations=[
            dict(image_id=7, file_name='7.png', segments_info=segments),
            dict(image_id=9, file_name='9.png', segments_info=segments[-1:]),
        ],
        categories=CATEGORIES,
    )


def instances() -> dict:
    annotations = [
        # Not in the order of the segments.
        dict(id=1, category_id=32, iscrowd=0, bbox=box(*TIE), segmentation=polygon(*TIE)),
        dict(id=2, category_id=1, iscrowd=0, bbox=box(*PERSON), segmentation=polygon(*PERSON)),
        dict(
            id=3,
            category_id=1,
            iscrowd=1,
            bbox=box(*CROWD),
            segmentation=uncompressed(region(*CROWD)),
        ),
    ]
    return dict(
        images=images(),
        annotations=[dict(item, image_id=7, area=1) for item in annotations],
        # COCO's file has them in any order; no isthing there.
        categories=[dict(id=32, name='tie'), dict(id=1, name='person')],
    )


def images() -> list[dict]:
    return [dict(id=i, file_name=f'{i}.jpg', height=HEIGHT, width=WIDTH) for i in (7, 9)]


def semantics() -> np.ndarray:
    """Labels of the first image."""
    labels = np.full((HEIGHT, WIDTH), 2)
    labels[region(*CROWD) | region(*PERSON)] = 0
    labels[region(*TIE)] = 1
    return labels


@pytest.fixture
def root(tmp_path):
    ids = np.full((HEIGHT, WIDTH), 5)
    empty = ids.copy()
    ids[region(*PERSON)] = 300
    ids[region(*TIE)] = 20
    ids[region(*CROWD)] = 70000
    for folder in ('img', 'seg'):
        (tmp_path / folder).mkdir()
    for image_id, segment_ids in ((7, ids), (9, empty)):
        cv2.imwrite(str(tmp_path / 'seg' / f'{image_id}.png'), id2rgb(segment_ids)[..., ::-1])
        picture = np.full((HEIGHT, WIDTH, 3), 99, dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'img' / f'{image_id}.jpg'), picture)
    write(tmp_path, panoptic=panoptic(), instances=instances())
    return tmp_path


def write(root, **files) -> None:
    for name, data in files.items():
        (root / f'{name}.json').write_text(data if isinstance(data, str) else json.dumps(data))


def build(root, **overrides):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmbanet.LoadPanopticAnnotations')]
    cfg = dict(
        type='mmbanet.PanopticDataset',
        data_root=str(root),
        ann_file='panoptic.json',
        instances_ann_file='instances.json',
        data_prefix=dict(img='img', seg='seg'),
        metainfo=METAINFO,
        pipeline=[*pipeline, dict(type='PackDetInputs')],
    )
    return DATASETS.build(cfg | overrides)


def test_the_tie_is_part_of_the_persons_mask_and_tie_to_semantics(root):
    sample = build(root)[0]['data_samples']
    tie, person = sample.gt_instances.masks.masks.astype(bool)
    assert sample.gt_instances.labels.tolist() == [1, 0]
    assert (tie == region(*TIE)).all()
    assert (person == region(*PERSON)).all()
    assert (tie & person).sum() == tie.sum()
    assert (sample.gt_sem_seg.sem_seg[0].numpy() == semantics()).all()
    assert sample.gt_instances.bboxes.tensor.tolist() == [[12, 8, 16, 20], [4, 2, 24, 28]]


def test_crowds_are_ignored_instances(root):
    ignored = build(root)[0]['data_samples'].ignored_instances
    assert ignored.labels.tolist() == [0]
    assert (ignored.masks.masks[0].astype(bool) == region(*CROWD)).all()
    assert ignored.bboxes.tensor.tolist() == [[30, 5, 38, 15]]


def test_an_image_without_instances(root):
    dataset = build(root)
    assert len(dataset) == 2
    sample = dataset[1]['data_samples']
    assert len(sample.gt_instances.masks) == len(sample.gt_instances.bboxes) == 0
    assert (sample.gt_sem_seg.sem_seg == 2).all()
    # A crowd alone is no ground truth to train on.
    data = instances()
    data['annotations'] = data['annotations'][2:]
    write(root, instances=data)
    assert len(build(root)) == 2
    with pytest.raises(ValueError, match='of 2 images none is left'):
        build(root, filter_cfg=dict(filter_empty_gt=True))


def test_an_instance_may_be_all_hidden_in_the_png(root):
    """COCO's panoptic files drop a few; the model still learns the mask."""
    data = panoptic()
    ids = np.full((HEIGHT, WIDTH), 5)
    ids[region(*PERSON)] = 300
    cv2.imwrite(str(root / 'seg' / '7.png'), id2rgb(ids)[..., ::-1])
    data['annotations'][0]['segments_info'] = [
        segment for segment in data['annotations'][0]['segments_info'] if segment['id'] in (300, 5)
    ]
    write(root, panoptic=data)
    sample = build(root)[0]['data_samples']
    assert sample.gt_instances.labels.tolist() == [1, 0]
    assert (sample.gt_instances.masks.masks[0].astype(bool) == region(*TIE)).all()


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What is said by MMEngine's logger."""
    said = []
    monkeypatch.setattr(
        'mmbanet.datasets.annotation_files.print_log', lambda message, **_: said.append(message)
    )
    return said


def test_without_the_file_masks_are_the_pngs_and_a_warning_says_so_once(root, warnings):
    dataset = build(root, instances_ann_file=None)
    samples = [dataset[i]['data_samples'] for i in (0, 1, 0)]
    person, tie = samples[0].gt_instances.masks.masks.astype(bool)
    assert (person == region(*PERSON) & ~region(*TIE)).all()
    assert (tie == region(*TIE)).all()
    (message,) = (text for text in warnings if 'instances_ann_file' in text)
    assert re.search(r'panoptic\.json: .*never overlap.*occlusion', message)
    warnings.clear()
    build(root)
    build(root, instances_ann_file=None, test_mode=True)
    assert not any('never overlap' in text for text in warnings)


def test_testing_does_not_read_the_file(root):
    (root / 'instances.json').unlink()
    sample = build(root, test_mode=True)[0]['data_samples']
    assert len(sample.gt_instances.masks) == 2


@pytest.mark.parametrize('where', ['relative', 'absolute'])
def test_path_follows_the_data_root(root, tmp_path_factory, where):
    other = tmp_path_factory.mktemp('elsewhere')
    (root / 'instances.json').rename(other / 'instances.json')
    path = str(other / 'instances.json')
    if where == 'relative':
        path = osp.relpath(path, root)
    assert len(build(root, instances_ann_file=path)[0]['data_samples'].gt_instances) == 2


def test_missing_file_says_how_to_train_without(root):
    (root / 'instances.json').unlink()
    message = r'not found: .*instances\.json.*deleted.*make_scenes\.py.*instances_ann_file=None'
    with pytest.raises(FileNotFoundError, match=message):
        build(root)


def edit(data: dict, key: str, index: int, **changes) -> dict:
    data[key][index].update(changes)
    return data


MISMATCHES = {
    'image only in the panoptic file': (
        lambda: dict(instances(), images=images()[:1]),
        r'instances\.json lacks 1 image of .*panoptic\.json.*9',
    ),
    'image only in the instances file': (
        lambda: dict(instances(), images=[*images(), dict(images()[0], id=10)]),
        r'panoptic\.json lacks 1 image of .*instances\.json.*10',
    ),
    'other category numbers': (
        lambda: dict(
            edit(instances(), 'annotations', 0, category_id=2),
            categories=[dict(id=1, name='person'), dict(id=2, name='tie')],
        ),
        r'instances\.json: its categor.*panoptic\.json.*category 32 is missing here, "tie" there',
    ),
    'other category names': (
        lambda: dict(instances(), categories=[dict(id=32, name='person'), dict(id=1, name='tie')]),
        r'instances\.json: its categories.*category 1 is "tie" here, "person" there',
    ),
    'another category': (
        lambda: (
            edit(instances(), 'categories', 0, id=33, name='bag')
            | dict(annotations=instances()['annotations'][1:])
        ),
        r'category 32 is missing here, "tie" there',
    ),
    'stuff among the categories': (
        lambda: dict(
            instances(), categories=[*instances()['categories'], dict(id=187, name='sky')]
        ),
        r'category 187 is "sky" here, missing there',
    ),
    'image of another size': (
        lambda: edit(instances(), 'images', 1, height=WIDTH, width=HEIGHT),
        r'instances\.json: image 9 \(9\.jpg\): its height and width are \(40, 30\) here, '
        r'\(30, 40\) in .*panoptic\.json',
    ),
    'panoptic annotations': (panoptic, r'instances\.json: .*segments_info.*different files'),
    'cut off': (lambda: json.dumps(instances())[:-20], r'instances\.json: no valid JSON'),
    'broken polygon': (
        lambda: edit(instances(), 'annotations', 1, segmentation=[[1, 2, 3]]),
        r'instances\.json: image 7 \(7\.jpg\), annotation 2: ',
    ),
}


@pytest.mark.parametrize(('make', 'message'), MISMATCHES.values(), ids=MISMATCHES)
def test_files_that_do_not_fit(root, make, message):
    write(root, instances=make())
    with pytest.raises(ValueError, match=message):
        build(root)


def test_an_instances_file_in_place_of_the_panoptic_one(root):
    with pytest.raises(ValueError, match=r'instances\.json: .*"isthing" must be .*instances not'):
        build(root, ann_file='instances.json')


def test_instances_without_a_pixel_are_left_out_and_said_once(root, warnings):
    """COCO's own file has two."""
    data = instances()
    line = [9.65, 8.33, 9.65, 8.33, 10.68, 8.33, 10.68, 8.33]
    extra = dict(data['annotations'][0], segmentation=[line], bbox=[9.65, 8.33, 1.03, 0.0])
    data['annotations'] += [dict(extra, id=i) for i in (918, 919)]
    write(root, instances=data)
    dataset = build(root)
    assert len(dataset[0]['data_samples'].gt_instances) == 2
    (message,) = (text for text in warnings if 'without a pixel' in text)
    assert re.search(r'without a pixel: 2 instances.*image 7', message)


def test_a_polygon_between_the_pixels_is_left_out(root, warnings):
    """Its box is wide, so that it is known once the polygon is drawn."""
    data = instances()
    line = [9, 8, 15, 14, 21, 20]
    extra = dict(data['annotations'][0], id=918, segmentation=[line], bbox=[9, 8, 12, 12])
    data['annotations'].append(extra)
    write(root, instances=data)
    found = build(root)[0]['data_samples'].gt_instances
    assert len(found) == 2
    assert found.masks.masks.any(axis=(1, 2)).all()
    assert any('7.png: image 7: an instance without a pixel' in text for text in warnings)


def test_the_data_set_keeps_no_second_copy_of_the_annotations(root):
    """All of a worker's memory is mmengine's array of bytes, which processes share."""
    data = instances()
    corner = [[0, 0, 1, 0, 1, 1]]
    many = 20_000
    data['annotations'] += [
        dict(id=10 + i, image_id=9, category_id=1, bbox=[0, 0, 1, 1], segmentation=corner)
        for i in range(many)
    ]
    write(root, instances=data)
    dataset = build(root)
    held = dict(vars(dataset))
    shared = held.pop('data_bytes')
    assert shared.nbytes > 40 * many
    assert len(pickle.dumps(held)) < 20_000


def test_batches_are_what_a_detector_trains_on(root):
    dataset = build(root)
    batch = pseudo_collate([dataset[0], dataset[1]])
    assert [len(sample.gt_instances) for sample in batch['data_samples']] == [2, 0]
