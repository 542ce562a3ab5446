"""Scenes composed of photographs: the order that is true by construction, the edges, the files."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from panopticapi.utils import rgb2id
from pycocotools import mask as coco_mask

from mmbanet.datasets import PanopticDataset
from mmbanet.scenes import METAINFO, generate_scenes
from mmbanet.scenes.photographs import INSTANCE_MASKS, compose_scenes
from mmbanet.scenes.photographs.candidates import Candidate
from mmbanet.scenes.photographs.compose import Composer
from mmbanet.scenes.photographs.cutout import Cutout, cut_out
from mmbanet.scenes.photographs.paste import GAINS, MAX_TINT, Layer, match_gain, paste
from mmbanet.scenes.photographs.source import Photograph, PhotographSource, jpeg_quality

from ..conftest import ROOT

COUNTS = dict(train=8, val=3)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory) -> Path:
    """Any COCO panoptic set will do: here, drawn scenes are photographed."""
    return generate_scenes(
        tmp_path_factory.mktemp('photographs') / 'set', train=40, val=10, seed=1, workers=2
    )


@pytest.fixture(scope='module')
def scenes(photographs, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('composed') / 'set'
    return compose_scenes(root, photographs, **COUNTS, seed=2, workers=2)


def read(root: Path, split: str = 'train'):
    """(annotation, map of ids, full masks by id) of every scene, and the whole file."""
    content = json.loads((root / 'annotations' / f'panoptic_{split}.json').read_text())
    found = []
    for annotation in content['annotations']:
        png = root / 'annotations' / f'panoptic_{split}' / annotation['file_name']
        full = {
            part['id']: coco_mask.decode(part['amodal_rle']).astype(bool)
            for part in annotation['segments_info']
        }
        found.append((annotation, rgb2id(cv2.imread(str(png))[..., ::-1]), full))
    return found, content


def test_visible_is_the_full_mask_without_what_is_in_front(scenes):
    for annotation, ids, full in read(scenes)[0]:
        assert sorted(annotation['depth_order']) == sorted(full)
        taken = np.zeros(ids.shape, bool)
        for segment_id in annotation['depth_order']:
            assert ((ids == segment_id) == full[segment_id] & ~taken).all()
            taken |= full[segment_id]
        assert ((ids == 0) == ~taken).all()
        for part in annotation['segments_info']:
            assert part['area'] == (ids == part['id']).sum() > 0


def test_the_pixels_of_an_overlap_are_those_of_the_one_in_front(scenes, photographs):
    """Independent of masks: only what is in front was painted over the frame.

    The frame of a scene is found again; outside of cut-outs and their shadows it is as it was.
    """
    frames = [cv2.imread(str(path)) for path in sorted((photographs / 'train').glob('*.jpg'))]
    for annotation, ids, full in read(scenes)[0]:
        path = scenes / 'train' / annotation['file_name'].replace('.png', '.jpg')
        image = cv2.imread(str(path)).astype(int)
        changed = min((abs(image - frame).max(axis=2) for frame in frames), key=np.sum)
        in_front = {front for front, _ in annotation['occluded_pairs']}
        for segment_id in in_front:
            assert np.median(changed[ids == segment_id]) > 10
        untouched = ~np.any([full[i] for i in annotation['depth_order'][:6]], axis=0)
        assert np.median(changed[untouched]) < 6


def test_known_pairs_are_the_overlaps_of_cutouts(scenes):
    thing_ids = {c['id'] for c in read(scenes)[1]['categories'] if c['isthing']}
    number = 0
    for annotation, _, full in read(scenes)[0]:
        order = annotation['depth_order']
        category = {part['id']: part['category_id'] for part in annotation['segments_info']}
        things = [i for i in order if category[i] in thing_ids]
        overlapping = {
            (front, behind)
            for position, front in enumerate(things)
            for behind in things[position + 1 :]
            if (full[front] & full[behind]).any()
        }
        # What is of the frame overlaps nothing of the frame: any overlap is a cut-out's.
        assert {tuple(pair) for pair in annotation['occluded_pairs']} == overlapping
        number += len(overlapping)
    assert number >= COUNTS['train']


def test_things_stay_visible(scenes):
    for annotation, ids, full in read(scenes)[0]:
        for front, behind in annotation['occluded_pairs']:
            for segment_id in (front, behind):
                seen = (ids == segment_id).sum()
                assert seen >= 0.25 * full[segment_id].sum()
        assert ids.shape == (128, 128)


def test_two_to_six_cutouts_are_in_front_of_the_things_of_the_frame(photographs):
    composer = Composer(PhotographSource(photographs, 'train'))
    scenes = [composer.compose(np.random.default_rng(seed)) for seed in range(8)]
    counts = {scene.num_cutouts for scene in scenes}
    assert counts <= {2, 3, 4, 5, 6}
    assert len(counts) > 1
    for scene in scenes:
        things = [composer.source.is_thing[segment.label] for segment in scene.segments]
        assert things == [k < scene.num_things for k in range(len(things))]
        seen_before = [segment.mask for segment in scene.segments[scene.num_cutouts :]]
        assert np.sum(seen_before, axis=0).max() == 1  # of the frame nothing overlaps


def test_panoptic_dataset_reads_it(scenes):
    dataset = PanopticDataset(
        data_root=str(scenes),
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        metainfo=METAINFO,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations')],
    )
    assert len(dataset) == COUNTS['val']
    for item, (_, ids, _) in zip(dataset, read(scenes, 'val')[0]):
        assert item['img'].shape == (128, 128, 3)
        assert ((item['gt_seg_map'] == 255) == (ids == 0)).all()
        assert item['gt_masks'].masks.any(axis=(1, 2)).all()


def files(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob('*') if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def test_the_same_for_any_number_of_workers_and_another_for_another_seed(photographs, tmp_path):
    make = dict(train=3, val=2)
    one = files(compose_scenes(tmp_path / 'one', photographs, **make, seed=5, workers=1))
    two = files(compose_scenes(tmp_path / 'two', photographs, **make, seed=5, workers=2))
    other = files(compose_scenes(tmp_path / 'other', photographs, **make, seed=6, workers=1))
    assert one == two
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one if name.endswith('.jpg'))


def test_instance_masks_hold_what_was_asked_for(photographs, tmp_path):
    make = dict(train=8, val=0, seed=2, workers=2)
    masks = {}
    for kind in INSTANCE_MASKS:
        root = compose_scenes(tmp_path / kind, photographs, **make, instance_masks=kind)
        content = json.loads((root / 'annotations' / 'instances_train.json').read_text())
        entries = content['annotations']
        assert [entry['id'] for entry in entries] == list(range(1, len(entries) + 1))
        masks[kind] = [coco_mask.decode(entry['segmentation']).astype(bool) for entry in entries]
        for entry, mask in zip(entries, masks[kind]):
            assert entry['area'] == mask.sum()
            assert entry['bbox'] == coco_mask.toBbox(entry['segmentation']).tolist()
    visible, on_top, amodal = (masks[kind] for kind in INSTANCE_MASKS)
    expected_visible, expected_amodal = [], []
    found, content = read(root)
    thing_ids = {c['id'] for c in content['categories'] if c['isthing']}
    for annotation, ids, full in found:
        for part in annotation['segments_info']:
            if part['category_id'] in thing_ids:
                expected_visible.append(ids == part['id'])
                expected_amodal.append(full[part['id']])
    assert np.array_equal(visible, expected_visible)
    assert np.array_equal(amodal, expected_amodal)
    for seen, between, whole in zip(visible, on_top, amodal):
        assert not (seen & ~between).any()
        assert not (between & ~whole).any()


def test_same_class_share_and_overlap_do_what_they_say(photographs, tmp_path):
    def pairs(name: str, **options) -> tuple[int, float]:
        root = compose_scenes(
            tmp_path / name, photographs, train=12, val=0, seed=3, workers=2, **options
        )
        same = []
        for annotation, _, _ in read(root)[0]:
            category = {part['id']: part['category_id'] for part in annotation['segments_info']}
            same += [category[i] == category[j] for i, j in annotation['occluded_pairs']]
        return len(same), np.mean(same)

    assert pairs('much', overlap=1.0)[0] > 1.3 * pairs('little', overlap=0.0)[0]
    assert pairs('same', same_class=1.0)[1] > pairs('other', same_class=0.0)[1] + 0.3


def disc(size: int = 80, radius: int = 24) -> tuple[Photograph, Candidate]:
    """A blue disc in front of bright red, mixed at its edge as a camera mixes them."""
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    cover = np.clip(radius - np.hypot(x, y) + 0.5, 0, 1)[..., None]
    image = cover * [20, 40, 200] + (1 - cover) * [250, 30, 10]
    ids = np.where(cover[..., 0] >= 0.5, 7, 9).astype(np.int32)
    known = np.array([7, 9], np.int32), np.array([0, 1], np.uint8)
    photograph = Photograph(np.rint(image).astype(np.uint8), ids, *known)
    return photograph, Candidate(0, 7, 0, 0.8, 0.6)


IS_THING = np.array([True, False, *[True] * 254])


def test_edge_is_soft_and_has_no_halo():
    photograph, candidate = disc()
    cutout = cut_out(photograph, candidate, IS_THING)
    alpha, own = cutout.alpha / 255, cutout.alpha >= 128
    # Some two pixels wide, neither a hard edge nor a blurred thing.
    soft = ((alpha > 0.05) & (alpha < 0.95)).sum()
    outline = 2 * np.pi * 24
    assert 0.8 * outline < soft < 3 * outline
    # Falls from the middle to the rim, and the thing keeps its size to a pixel.
    row = alpha[len(alpha) // 2]
    assert (np.diff(row[: len(row) // 2]) >= 0).all()
    assert np.pi * 22.5**2 < own.sum() < np.pi * 24**2
    # The red of the background is nowhere to be seen in what is pasted.
    seen = cutout.color[alpha > 0.02].astype(int)
    assert abs(seen - [20, 40, 200]).max() <= 6


def test_paste_mixes_by_alpha_and_leaves_the_rest_alone():
    photograph, candidate = disc()
    cutout = cut_out(photograph, candidate, IS_THING)
    color, alpha = cutout.color.astype(np.float32), cutout.alpha.astype(np.float32) / 255
    frame = np.full((100, 120, 3), 90, np.float32)
    same_light = cutout.support_color
    layer = Layer(color, alpha, 10, -9, 0, 1.0, False, cutout, 1.0, same_light)
    image = frame.copy()
    paste(np.random.default_rng(0), image, layer, noise=0.0)
    expected = frame.copy()
    for y in range(alpha.shape[0]):
        for x in range(9, alpha.shape[1]):
            a = alpha[y, x]
            expected[y + 10, x - 9] = a * color[y, x] + (1 - a) * frame[y + 10, x - 9]
    assert np.allclose(image, expected, atol=1e-3)
    assert (layer.mask(100, 120) == (image[..., 2] >= 145)).all()


def test_light_is_matched_within_limits():
    assert match_gain(np.ones(3)).tolist() == [1, 1, 1]
    for ratio in ([9, 9, 9], [0.1, 0.1, 0.1], [0.5, 1, 2]):
        gain = match_gain(np.array(ratio))
        assert GAINS[0] / MAX_TINT <= gain.min() <= gain.max() <= GAINS[1] * MAX_TINT
    assert match_gain(np.array([1.2, 1.2, 1.2]))[0] == pytest.approx(1.2**0.85)


def test_what_may_be_several_or_a_part_is_not_cut_out():
    photograph, candidate = disc()

    def cut(ids: np.ndarray, labels=(0, 1)) -> Cutout | None:
        known = np.array([7, 9], np.int32), np.array(labels, np.uint8)
        return cut_out(Photograph(photograph.image, ids, *known), candidate, IS_THING)

    assert cut(photograph.ids) is not None
    two = np.full((80, 80), 9, np.int32)
    two[20:60, 5:30] = two[20:60, 50:75] = 7
    assert cut(two) is None
    hollow = np.full((80, 80), 9, np.int32)
    hollow[10:70, 10:20] = hollow[60:70, 10:70] = 7
    assert cut(hollow) is None
    beside_a_thing = photograph.ids.copy()
    assert cut(beside_a_thing, labels=(0, 0)) is None


def test_jpeg_quality_is_read_from_its_tables(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    for quality in (50, 75, 90, 95):
        path = tmp_path / f'{quality}.jpg'
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        assert abs(jpeg_quality(path) - quality) <= 1


def edit(root: Path, change) -> None:
    path = root / 'annotations' / 'panoptic_train.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def without_things(content: dict) -> None:
    for annotation in content['annotations']:
        annotation['segments_info'] = [
            part for part in annotation['segments_info'] if part['category_id'] > 20
        ]


def one_image(content: dict) -> None:
    del content['annotations'][1:]


@pytest.mark.parametrize(
    ('damage', 'error', 'message'),
    [
        (lambda r: edit(r, without_things), ValueError, 'no things to cut out'),
        (lambda r: edit(r, one_image), ValueError, 'expected two images at least, got 1'),
        (lambda r: edit(r, dict.clear), ValueError, 'no COCO panoptic annotations'),
        (lambda r: shutil.rmtree(r / 'train'), FileNotFoundError, 'folder of images not found'),
        (
            lambda r: shutil.rmtree(r / 'annotations' / 'panoptic_train'),
            FileNotFoundError,
            'folder of PNGs not found',
        ),
        (
            lambda r: (r / 'annotations' / 'panoptic_train.json').unlink(),
            FileNotFoundError,
            r'expected one panoptic_train\.json',
        ),
        (shutil.rmtree, FileNotFoundError, 'folder of photographs not found'),
    ],
)
def test_photographs_that_are_refused(photographs, tmp_path, damage, error, message):
    root = tmp_path / 'damaged'
    shutil.copytree(photographs, root)
    damage(root)
    with pytest.raises(error, match=message):
        compose_scenes(tmp_path / 'out', root, train=1, val=0, workers=1)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'setting',
    [dict(train=-1), dict(size=10), dict(overlap=1.5), dict(same_class=-1), dict(seed=-1)],
)
def test_settings_out_of_range(photographs, tmp_path, setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        compose_scenes(tmp_path / 'out', photographs, **setting)


def test_command_line(photographs, tmp_path, monkeypatch, capsys):
    def run(*options: str) -> None:
        argv = ['make_scenes.py', '--out', str(tmp_path / 'out'), '--train', '1', '--val', '1']
        monkeypatch.setattr(sys, 'argv', [*argv, *options])
        runpy.run_path(str(ROOT / 'tools' / 'make_scenes.py'), None, '__main__')

    run('--photographs', str(photographs), '--size', '96', '--same-class', '0.5')
    assert cv2.imread(str(tmp_path / 'out' / 'val' / '000000000001.jpg')).shape == (96, 96, 3)
    with pytest.raises(SystemExit, match=r'^make_scenes\.py: folder of photographs not found.*\Z'):
        run('--photographs', str(tmp_path / 'nowhere'), '--overwrite')
    with pytest.raises(SystemExit, match='2'):
        run('--overlap', '0.5')
    assert '--overlap needs --photographs' in capsys.readouterr().err


def test_painted_in_the_order_that_is_written(tmp_path):
    """Flat things: where the front one is said to be, only its colour is seen."""
    rng = np.random.default_rng(0)
    source = tmp_path / 'flat'
    (source / 'train').mkdir(parents=True)
    (source / 'annotations' / 'panoptic_train').mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, 9):
        image, ids = np.full((120, 160, 3), 128, np.uint8), np.full((120, 160), 9, np.int32)
        for thing, x in ((1, 45), (2, 115)):
            color = rng.choice([10, 245], 3)
            color[thing] = rng.integers(80, 170)
            center = x, 60 + int(rng.integers(-8, 8))
            for canvas, value in ((image, color.tolist()), (ids, thing)):
                cv2.circle(canvas, center, 22, value, -1)
        name = f'{number}.png'
        cv2.imwrite(str(source / 'train' / name), image)
        png = np.stack([np.zeros_like(ids), np.zeros_like(ids), ids], axis=-1)
        cv2.imwrite(str(source / 'annotations' / 'panoptic_train' / name), png)
        images.append({'id': number, 'file_name': name, 'height': 120, 'width': 160})
        segments = []
        for segment_id in (1, 2, 9):
            x, y, w, h = cv2.boundingRect((ids == segment_id).astype(np.uint8))
            part = {'id': segment_id, 'category_id': 1 if segment_id < 9 else 2, 'iscrowd': 0}
            segments.append(part | {'area': int((ids == segment_id).sum()), 'bbox': [x, y, w, h]})
        annotations.append({'image_id': number, 'file_name': name, 'segments_info': segments})
    categories = [
        {'id': 1, 'name': 'disc', 'isthing': 1},
        {'id': 2, 'name': 'wall', 'isthing': 0},
    ]
    content = dict(images=images, annotations=annotations, categories=categories)
    (source / 'annotations' / 'panoptic_train.json').write_text(json.dumps(content))

    root = compose_scenes(tmp_path / 'out', source, train=12, val=0, seed=1, workers=1)
    checked = 0
    for annotation, _, full in read(root)[0]:
        path = root / 'train' / annotation['file_name'].replace('.png', '.jpg')
        image = cv2.imread(str(path)).astype(int)
        for front, behind in annotation['occluded_pairs']:
            before = annotation['depth_order'][: annotation['depth_order'].index(front)]
            seen = (
                full[front] & ~np.any([full[i] for i in before], axis=0) if before else full[front]
            )
            seen = cv2.erode(seen.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
            inside, beside = seen & full[behind], seen & ~full[behind]
            if min(inside.sum(), beside.sum()) >= 20:
                assert abs(image[inside].mean(0) - image[beside].mean(0)).max() < 15
                checked += 1
    assert checked >= 12
