"""The generated data set: its format, its truth about depth, and that it can be made again."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from panopticapi.evaluation import pq_compute
from panopticapi.utils import rgb2id
from pycocotools import mask as coco_mask

from mmbanet.datasets.scenes import CATEGORIES, METAINFO, SMALL_THINGS, generate_scenes
from mmbanet.datasets.scenes import generate as generate_module

COUNTS = dict(train=60, val=12)
CATEGORY = {category['id']: category for category in CATEGORIES}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('scenes') / 'data'
    return generate_scenes(root, **COUNTS, size=128, seed=3, workers=2)


def read(root: Path, split: str = 'train') -> tuple[dict, list[np.ndarray]]:
    content = json.loads((root / 'annotations' / f'panoptic_{split}.json').read_text())
    folder = root / 'annotations' / f'panoptic_{split}'
    maps = [
        rgb2id(cv2.imread(str(folder / annotation['file_name']))[:, :, ::-1])
        for annotation in content['annotations']
    ]
    return content, maps


def test_mmdet_reads_it(scenes):
    cfg = dict(
        type='CocoPanopticDataset',
        data_root=str(scenes),
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        metainfo=METAINFO,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations')],
    )
    dataset = DATASETS.build(cfg)
    content, maps = read(scenes)
    assert len(dataset) == COUNTS['train']
    names = METAINFO['classes']
    for item, annotation, ids in zip(dataset, content['annotations'], maps):
        assert item['img'].shape == (128, 128, 3)
        assert (item['gt_seg_map'] != 255).all()
        things = [s for s in annotation['segments_info'] if CATEGORY[s['category_id']]['isthing']]
        assert len(item['gt_masks']) == len(things)
        for mask, label, segment in zip(item['gt_masks'], item['gt_bboxes_labels'], things):
            assert names[label] == CATEGORY[segment['category_id']]['name']
            assert (mask.astype(bool) == (ids == segment['id'])).all()


def test_its_own_ground_truth_scores_100(scenes):
    annotations = scenes / 'annotations'
    file, folder = annotations / 'panoptic_val.json', annotations / 'panoptic_val'
    result = pq_compute(str(file), str(file), str(folder), str(folder))
    assert result['All']['pq'] == 1.0


def test_full_masks_laid_by_depth_give_the_map(scenes):
    content, maps = read(scenes)
    for annotation, ids in zip(content['annotations'], maps):
        segments = {segment['id']: segment for segment in annotation['segments_info']}
        assert sorted(annotation['depth_order']) == sorted(segments)
        laid = np.zeros_like(ids)
        for segment_id in reversed(annotation['depth_order']):
            full = coco_mask.decode(segments[segment_id]['amodal_rle']).astype(bool)
            assert not ((ids == segment_id) & ~full).any()
            laid[full] = segment_id
        assert (laid == ids).all()
        for segment_id, segment in segments.items():
            rows, columns = np.nonzero(ids == segment_id)
            x, y, w, h = segment['bbox']
            assert (x, y, x + w, y + h) == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )
            assert segment['area'] == len(rows) >= 25


def test_scenes_hold_what_occlusion_handling_is_about(scenes):
    """Heavy overlaps, small things on large ones; every class; images without things exist."""
    content, _ = read(scenes)
    classes, occluded, small_in_front, images_with_pair = Counter(), 0, 0, 0
    for annotation in content['annotations']:
        segments = {segment['id']: segment for segment in annotation['segments_info']}
        names = [CATEGORY[segments[i]['category_id']]['name'] for i in annotation['depth_order']]
        classes.update(names)
        things = [
            (name, coco_mask.decode(segments[i]['amodal_rle']).astype(bool))
            for name, i in zip(names, annotation['depth_order'])
            if name in METAINFO['thing_classes']
        ]
        pairs = 0
        for front in range(len(things)):
            for behind in range(front + 1, len(things)):
                (name_a, a), (name_b, b) = things[front], things[behind]
                if (a & b).sum() > 0.2 * min(a.sum(), b.sum()):
                    pairs += 1
                    small_in_front += name_a in SMALL_THINGS and name_b not in SMALL_THINGS
        occluded += pairs
        images_with_pair += pairs > 0
    assert set(classes) == set(METAINFO['classes'])
    assert occluded >= 1.5 * COUNTS['train']
    assert small_in_front >= 0.3 * occluded
    assert images_with_pair >= 0.6 * COUNTS['train']


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()
    }


def test_the_same_for_any_number_of_workers_and_another_for_another_seed(tmp_path):
    make = dict(train=6, val=3, size=64)
    one = files(generate_scenes(tmp_path / 'one', **make, seed=5, workers=1))
    three = files(generate_scenes(tmp_path / 'three', **make, seed=5, workers=3))
    other = files(generate_scenes(tmp_path / 'other', **make, seed=6, workers=1))
    assert one == three
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith('.jpg'))


def test_interrupted_run_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    root = tmp_path / 'scenes'
    with monkeypatch.context() as patch:
        patch.setattr(generate_module, 'annotation_file', interrupt)
        with pytest.raises(KeyboardInterrupt):
            generate_scenes(root, train=2, val=1, size=64, workers=1)
    assert not root.exists()
    generate_scenes(root, train=2, val=1, size=64, workers=1)
    assert (root / 'scenes.json').is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['scenes']


def test_what_is_there_is_kept_or_refused(tmp_path):
    make = dict(train=2, val=1, size=64, workers=1)
    root = generate_scenes(tmp_path / 'scenes', **make)
    before = (root / 'scenes.json').stat().st_mtime_ns
    generate_scenes(root, **make)
    assert (root / 'scenes.json').stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match='holds other scenes'):
        generate_scenes(root, **{**make, 'seed': 1})
    generate_scenes(root, **{**make, 'seed': 1}, overwrite=True)
    assert json.loads((root / 'scenes.json').read_text())['seed'] == 1

    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('')
    with pytest.raises(FileExistsError, match='holds no generated scenes'):
        generate_scenes(tmp_path / 'mine', **make)


@pytest.mark.parametrize(
    ('name', 'value'), [('train', -1), ('val', -1), ('size', 32), ('seed', -1), ('workers', -2)]
)
def test_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} must be at least .*, got {value}'):
        generate_scenes(tmp_path / 'scenes', **{name: value})
