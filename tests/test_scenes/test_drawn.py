"""The generated data set: its format, its truth about depth, and that it can be made again."""

import json
import runpy
import sys
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from panopticapi.evaluation import pq_compute
from panopticapi.utils import rgb2id
from pycocotools import mask as coco_mask

from mmbanet.scenes import CATEGORIES, METAINFO, SMALL_THINGS, data_set, generate_scenes

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


def full_masks(annotation: dict) -> list[tuple[str, np.ndarray]]:
    """(class, full mask) of the things of an image, front to back."""
    segments = {segment['id']: segment for segment in annotation['segments_info']}
    ordered = [segments[i] for i in annotation['depth_order']]
    return [
        (CATEGORY[s['category_id']]['name'], coco_mask.decode(s['amodal_rle']).astype(bool))
        for s in ordered
        if CATEGORY[s['category_id']]['isthing']
    ]


def occluded_pairs(things: list[tuple[str, np.ndarray]]) -> list:
    """Pairs (front, behind) whose overlap is more than 20% of either (section 4.3 of the paper)."""
    return [
        (front, behind)
        for front, behind in combinations(things, 2)
        if (front[1] & behind[1]).sum() > 0.2 * min(front[1].sum(), behind[1].sum())
    ]


def test_scenes_hold_what_occlusion_handling_is_about(scenes):
    """Every class, heavy overlaps, small things inside large ones, an image without things."""
    content, _ = read(scenes)
    found, empty, small_in_front, inside = set(), 0, 0, 0
    pairs_of_images = []
    for annotation in content['annotations']:
        things = full_masks(annotation)
        found |= {CATEGORY[s['category_id']]['name'] for s in annotation['segments_info']}
        empty += not things
        pairs = occluded_pairs(things)
        pairs_of_images.append(len(pairs))
        for (front, front_mask), (behind, behind_mask) in pairs:
            if front in SMALL_THINGS and behind not in SMALL_THINGS:
                small_in_front += 1
                inside += not (front_mask & ~behind_mask).any()
    occluded = sum(pairs_of_images)
    assert found == set(METAINFO['classes'])
    assert 1 <= empty <= 0.1 * COUNTS['train']
    assert 2 <= occluded / COUNTS['train'] <= 5
    assert np.mean(np.array(pairs_of_images) > 0) >= 0.6
    assert 0.3 <= small_in_front / occluded <= 0.7
    assert inside >= 0.6 * small_in_front


def test_colour_tells_which_is_in_front_as_often_as_on_photographs(scenes):
    """Section 3.3: the overlap goes to the thing whose mean RGB is closer, given the full masks."""
    content, _ = read(scenes)
    right = []
    for annotation in content['annotations']:
        path = scenes / 'train' / annotation['file_name'].replace('.png', '.jpg')
        image = cv2.imread(str(path)).astype(float)
        direction = image / np.linalg.norm(image, axis=-1, keepdims=True).clip(1e-6)
        for (_, front), (_, behind) in occluded_pairs(full_masks(annotation)):
            means = np.stack([image[front].mean(0), image[behind].mean(0)])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            similarity = means @ direction[front & behind].mean(0)
            right.append(similarity[0] > similarity[1])
    assert 0.57 <= np.mean(right) <= 0.77


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
        patch.setattr(data_set, '_write_annotations', interrupt)
        with pytest.raises(KeyboardInterrupt):
            generate_scenes(root, train=2, val=1, size=64, workers=1)
    assert list(tmp_path.iterdir()) == []
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
    # A record of something else is no licence either.
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'scenes.json').write_text('{"act": 1}')
    for name in ('mine', 'other'):
        for overwrite in (False, True):
            with pytest.raises(FileExistsError, match='holds no generated scenes'):
                generate_scenes(tmp_path / name, **make, overwrite=overwrite)
    assert (tmp_path / 'mine' / 'thesis.tex').exists()


def test_scenes_of_which_files_are_gone_or_changed_are_refused(tmp_path):
    make = dict(train=2, val=1, size=64, workers=1)
    for name in ('train/000000000002.jpg', 'annotations/panoptic_val/000000000001.png'):
        for change in ('gone', 'changed'):
            root = generate_scenes(tmp_path / f'{change}_{Path(name).stem}_{name[0]}', **make)
            (root / name).unlink()
            if change == 'changed':
                (root / name).write_bytes(b'other')
            for overwrite in (False, True):
                message = rf'is incomplete: {name} is gone or was changed \(of its 10 files 1\)'
                with pytest.raises(FileExistsError, match=message):
                    generate_scenes(root, **make, overwrite=overwrite)


def test_what_was_not_generated_is_never_deleted(tmp_path):
    make = dict(train=2, val=1, size=64, workers=1)
    # A user's files beside the scenes: they do not get in the way, and are not deleted.
    root = generate_scenes(tmp_path / 'scenes', **make)
    (root / 'train' / 'thesis.tex').write_text('')
    generate_scenes(root, **make)
    with pytest.raises(FileExistsError, match=r'holds train/thesis\.tex, which was not generated'):
        generate_scenes(root, **{**make, 'seed': 1}, overwrite=True)
    # A record that was copied to other files of the same names.
    forged = tmp_path / 'forged'
    (forged / 'train').mkdir(parents=True)
    (forged / 'train' / '000000000001.jpg').write_text('a photo')
    record = json.loads((root / 'scenes.json').read_text())
    for files in (record['files'], {}, None, []):
        (forged / 'scenes.json').write_text(json.dumps(dict(record, files=files)))
        for overwrite in (False, True):
            with pytest.raises(FileExistsError):
                generate_scenes(forged, **{**make, 'seed': 1}, overwrite=overwrite)
    assert (forged / 'train' / '000000000001.jpg').read_text() == 'a photo'
    assert (root / 'train' / 'thesis.tex').exists()


def test_link_to_another_disk_stays_a_link(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'scenes').symlink_to(tmp_path / 'disk')
    for overwrite in (False, True):
        generate_scenes(tmp_path / 'scenes', train=1, val=1, size=64, overwrite=overwrite)
        assert (tmp_path / 'scenes').is_symlink()
        assert (tmp_path / 'disk' / 'scenes.json').is_file()


def test_command_line(tmp_path, monkeypatch):
    def run(out: Path) -> None:
        options = ['--train', '2', '--val', '1', '--size', '65', '--workers', '2']
        monkeypatch.setattr(sys, 'argv', ['make_scenes.py', '--out', str(out), *options])
        runpy.run_path(
            str(Path(__file__).parents[2] / 'tools' / 'make_scenes.py'), None, '__main__'
        )

    root = tmp_path / 'scenes'
    run(root)
    assert cv2.imread(str(root / 'val' / '000000000001.jpg')).shape == (65, 65, 3)

    with pytest.raises(SystemExit, match=r'^make_scenes\.py: .*Not a directory'):
        # A file stands where a folder would have to be.
        run(root / 'scenes.json' / 'new')


@pytest.mark.parametrize(
    ('name', 'value'), [('train', -1), ('val', -1), ('size', 32), ('seed', -1), ('workers', -2)]
)
def test_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(ValueError, match=f'{name} must be at least .*, got {value}'):
        generate_scenes(tmp_path / 'scenes', **{name: value})
