import gc
import json
import sys

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from mmbanet.datasets import PanopticDataset, annotation_files

METAINFO = dict(
    classes=('cat', 'dog', 'sky', 'sea'),
    thing_classes=('cat', 'dog'),
    stuff_classes=('sky', 'sea'),
    palette=[(0, 0, 0)] * 4,
)
CATEGORIES = [
    dict(id=3, name='cat', isthing=1),
    dict(id=1, name='dog', isthing=1),
    dict(id=7, name='sky', isthing=0),
    dict(id=9, name='sea', isthing=0),
]


def write_dataset(root, categories) -> None:
    seg = np.zeros((8, 8, 3), dtype=np.uint8)
    seg[:, :, 0] = 1
    seg[2:6, 2:6, 0] = 2
    for folder in ('img', 'seg'):
        (root / folder).mkdir()
    Image.fromarray(seg).save(root / 'seg' / 'a.png')
    Image.fromarray(seg).save(root / 'img' / 'a.jpg')
    segments = [
        dict(id=1, category_id=7, bbox=[0, 0, 8, 8], area=48, iscrowd=0),
        dict(id=2, category_id=1, bbox=[2, 2, 4, 4], area=16, iscrowd=0),
    ]
    annotations = dict(
        images=[dict(id=1, file_name='a.jpg', height=8, width=8)],
        annotations=[dict(image_id=1, file_name='a.png', segments_info=segments)],
        categories=categories,
    )
    (root / 'ann.json').write_text(json.dumps(annotations))


def build(root, **overrides):
    cfg = dict(
        type='mmbanet.PanopticDataset',
        data_root=str(root),
        ann_file='ann.json',
        data_prefix=dict(img='img', seg='seg'),
        metainfo=METAINFO,
    )
    return DATASETS.build(cfg | overrides)


def test_loads_what_mmdet_loads(tmp_path):
    write_dataset(tmp_path, CATEGORIES)
    ours, theirs = build(tmp_path), build(tmp_path, type='CocoPanopticDataset')
    info = ours.get_data_info(0)
    # Which segment of the PNG an instance is; mmdet goes by their order.
    assert [instance.pop('segment_id') for instance in info['instances']] == [2]
    assert info == theirs.get_data_info(0)
    assert [s['category'] for s in ours.get_data_info(0)['segments_info']] == [2, 1]


def test_loading_pauses_the_collector_and_no_longer(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(annotation_files, 'get', lambda *_, **__: seen.append(gc.isenabled()))
    write_dataset(tmp_path, CATEGORIES)
    with pytest.raises(ValueError, match='is empty'):
        build(tmp_path)
    assert seen == [False]
    assert gc.isenabled()


@pytest.mark.parametrize('missing', ['ann_file', 'img', 'seg', 'data_root'])
def test_missing_path_is_named(tmp_path, missing):
    write_dataset(tmp_path, CATEGORIES)
    overrides = {
        'ann_file': dict(ann_file='nowhere.json'),
        'img': dict(data_prefix=dict(img='nowhere', seg='seg')),
        'seg': dict(data_prefix=dict(img='img', seg='nowhere')),
        'data_root': dict(data_root=str(tmp_path / 'nowhere')),
    }[missing]
    with pytest.raises(FileNotFoundError, match=r'not found: .*nowhere'):
        build(tmp_path, **overrides)


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (1, 0, 3, 2), (2, 3, 0, 1), (0, 2, 1, 3)])
def test_labels_go_by_name_whatever_the_order_in_the_file(tmp_path, order):
    write_dataset(tmp_path, [CATEGORIES[i] for i in order])
    dataset = build(tmp_path)
    assert dataset.cat2label == {3: 0, 1: 1, 7: 2, 9: 3}
    assert dataset.cat_ids == [3, 1, 7, 9]
    info = dataset.get_data_info(0)
    kinds = [(s['category'], s['is_thing']) for s in info['segments_info']]
    assert kinds == [(2, False), (1, True)]
    assert [instance['bbox_label'] for instance in info['instances']] == [1]


def test_categories_must_be_the_classes(tmp_path):
    write_dataset(tmp_path, CATEGORIES[:3])
    with pytest.raises(ValueError, match=r"ann.json.* missing: \['sea'\], unknown: \[\]"):
        build(tmp_path)
    cow = dict(CATEGORIES[1], name='cow')
    (tmp_path / 'other').mkdir()
    write_dataset(tmp_path / 'other', [CATEGORIES[0], cow, *CATEGORIES[2:]])
    with pytest.raises(ValueError, match=r"ann.json.* missing: \['dog'\], unknown: \['cow'\]"):
        build(tmp_path / 'other')


def test_isthing_disagrees_with_metainfo(tmp_path):
    write_dataset(tmp_path, [CATEGORIES[0], {**CATEGORIES[1], 'isthing': 0}, *CATEGORIES[2:]])
    with pytest.raises(ValueError, match=r'ann\.json: category "dog" is stuff by its isthing, but'):
        build(tmp_path)


PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations'),  # mmdet's, which the data set replaces
    dict(type='PackDetInputs'),
]


def edit(root, change):
    content = json.loads((root / 'ann.json').read_text())
    change(content)
    (root / 'ann.json').write_text(json.dumps(content))


@pytest.mark.parametrize('names', [('b.jpeg', 'b.png'), ('B.JPG', 'x.png'), ('a.jpg.b.jpg', 'c')])
def test_the_png_is_the_one_that_the_annotation_names(tmp_path, names):
    write_dataset(tmp_path, CATEGORIES)
    for folder, old, new in zip(('img', 'seg'), ('a.jpg', 'a.png'), names):
        (tmp_path / folder / old).rename(tmp_path / folder / new)

    def rename(content):
        content['images'][0]['file_name'], content['annotations'][0]['file_name'] = names

    edit(tmp_path, rename)
    sample = build(tmp_path, pipeline=PIPELINE)[0]['data_samples']
    assert sample.gt_instances.masks.masks.sum() == 16
    assert sample.gt_sem_seg.sem_seg.unique().tolist() == [1, 2]


@pytest.mark.parametrize('name', ['LoadPanopticAnnotations', 'mmbanet.LoadPanopticAnnotations'])
def test_nobody_needs_panopticapi(tmp_path, monkeypatch, name):
    """It wants an old NumPy, and mmdet's transform wants it."""
    for module in [*sys.modules]:
        if module.partition('.')[0] == 'panopticapi':
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, 'panopticapi', None)
    write_dataset(tmp_path, CATEGORIES)
    sample = build(tmp_path, pipeline=[PIPELINE[0], dict(type=name), PIPELINE[2]])[0]
    assert sample['data_samples'].gt_instances.masks.masks.sum() == 16


@pytest.mark.parametrize('orientation', [3, 6])
def test_a_photo_that_exif_turns(tmp_path, orientation, monkeypatch):
    """Known from the size for a quarter turn; half a turn leaves the size, so it is said."""
    write_dataset(tmp_path, CATEGORIES)
    edit(tmp_path, lambda content: content['images'][0].update(height=6))
    pixels = np.array(Image.open(tmp_path / 'seg' / 'a.png'))[1:7]
    Image.fromarray(pixels).save(tmp_path / 'seg' / 'a.png')
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / 'img' / 'a.jpg', exif=exif)
    said = []
    monkeypatch.setattr(annotation_files, 'print_log', lambda message, **_: said.append(message))
    if orientation == 6:
        for look in ('check_files', 'prepare_data'):
            dataset = build(tmp_path, pipeline=PIPELINE)
            with pytest.raises(ValueError, match=r'a\.jpg: .* 8x6 pixels, turned by .* says 6x8'):
                getattr(dataset, look)(*[0] * (look == 'prepare_data'))
    else:
        assert build(tmp_path, pipeline=PIPELINE)[0]['inputs'].shape[1:] == (6, 8)
        assert any('a.jpg' in message and 'EXIF' in message for message in said)
    stored = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    item = build(tmp_path, pipeline=[stored, *PIPELINE[1:]])[0]
    assert item['inputs'].shape[1:] == item['data_samples'].gt_sem_seg.sem_seg.shape[1:] == (6, 8)


@pytest.mark.parametrize(
    ('filter_cfg', 'message'),
    [
        (dict(filter_empty_gt=False), r'of 1 image none .* 1 with no thing'),
        (dict(filter_empty_gt=True), r'of 1 image none .* 1 with no thing'),
        (dict(min_size=9), r'of 1 image none .* 1 with a side of under 9 pixels'),
    ],
)
def test_a_filter_that_leaves_nothing(tmp_path, filter_cfg, message):
    write_dataset(tmp_path, CATEGORIES)
    if 'filter_empty_gt' in filter_cfg:
        edit(tmp_path, lambda content: content['annotations'][0]['segments_info'].pop())
    with pytest.raises(ValueError, match=rf'ann\.json: {message}'):
        build(tmp_path, filter_cfg=filter_cfg)
    assert len(build(tmp_path, filter_cfg=filter_cfg, test_mode=True)) == 1


def test_no_class_of_things(tmp_path):
    stuff = ('sky', 'sea')
    write_dataset(tmp_path, CATEGORIES[2:])
    with pytest.raises(ValueError, match='needs at least one thing class'):
        build(tmp_path, metainfo=dict(classes=stuff, thing_classes=(), stuff_classes=stuff))


def test_more_classes_than_labels(tmp_path):
    names = [f'class {number}' for number in range(256)]
    write_dataset(tmp_path, [dict(id=i, name=n, isthing=1) for i, n in enumerate(names)])
    with pytest.raises(ValueError, match='256 classes, but the label 255'):
        build(tmp_path, metainfo=dict(classes=names, thing_classes=names, stuff_classes=[]))


def test_images_without_annotation(tmp_path):
    write_dataset(tmp_path, CATEGORIES)
    other = dict(id=2, file_name='gone.jpg', height=8, width=8)
    edit(tmp_path, lambda content: content['images'].append(other))
    for test_mode in (False, True):
        dataset = build(tmp_path, test_mode=test_mode)
        assert [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))] == [1]
    # COCO's files of test images have no annotations at all.
    edit(tmp_path, lambda content: content.pop('annotations'))
    assert len(build(tmp_path, test_mode=True)) == 2
    with pytest.raises(ValueError, match=r'ann\.json: .*"annotations" must be a list'):
        build(tmp_path)


def test_own_classes_have_colours_of_their_own(tmp_path):
    def palette(metainfo):
        return build(tmp_path, metainfo=metainfo, lazy_init=True).metainfo['palette']

    classes = {name: METAINFO[name] for name in ('classes', 'thing_classes', 'stuff_classes')}
    colors, of_coco = palette(classes), PanopticDataset.METAINFO['palette']
    assert len(colors) == len(set(map(tuple, colors))) == len(METAINFO['classes'])
    assert colors != of_coco[: len(colors)]
    assert palette(METAINFO) == METAINFO['palette']
    assert palette(None) == of_coco
