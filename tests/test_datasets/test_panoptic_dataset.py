import json

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

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
