"""Semantic label images to COCO panoptic: what components become, and what is refused."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from panopticapi.utils import rgb2id
from PIL import Image

from mmbanet.cli.convert import main
from mmbanet.datasets import PanopticDataset
from mmbanet.datasets.class_map import ClassMap
from mmbanet.datasets.panoptic_writer import write_data_set
from mmbanet.datasets.semantic_conversion import panoptic_segments, semantic_data_set
from mmbanet.engine.launch import replace_data_root
from mmbanet.registry import DATASETS

from ..conftest import CONFIGS, ROOT

CLASSES = ClassMap(things={'car': (2,)}, stuff={'sky': (0,), 'road': (1, 3)}, void=(9,))
# Two cars that touch at a corner, a speck, sky above road, one void pixel.
LABELS = np.array(
    [
        [0, 0, 0, 0, 0, 9],
        [0, 2, 2, 0, 0, 2],
        [0, 2, 2, 0, 0, 0],
        [1, 1, 1, 2, 2, 1],
        [3, 1, 1, 2, 2, 1],
    ],
    np.uint8,
)


def convert(root, out, classes, overwrite=False, **settings):
    return write_data_set(out, semantic_data_set(root, classes, **settings), overwrite)


@pytest.fixture
def root(tmp_path):
    """Two images in the layout of the SegNet tutorial."""
    for split in ('train', 'val'):
        for folder, image in ((split, LABELS[..., None].repeat(3, 2)), (split + 'annot', LABELS)):
            (tmp_path / 'set' / folder).mkdir(parents=True)
            for name in ('b', 'a'):
                cv2.imwrite(str(tmp_path / 'set' / folder / f'{name}.png'), image)
    return tmp_path / 'set'


@pytest.mark.parametrize(('connectivity', 'min_area', 'areas'), [(8, 2, [8]), (4, 1, [4, 1, 4])])
def test_components_of_things_are_instances(connectivity, min_area, areas):
    labels = CLASSES.labels(LABELS, 'a.png')
    ids, segments = panoptic_segments(labels, CLASSES.categories, min_area, connectivity)
    assert [part['area'] for part in segments if part['category_id'] == 1] == areas
    assert [part['category_id'] for part in segments[len(areas) :]] == [2, 3]
    assert len({part['id'] for part in segments}) == len(segments)
    for part in segments:
        rows, cols = np.nonzero(ids == part['id'])
        x, y, w, h = part['bbox']
        assert part['area'] == len(rows)
        assert (x, y, x + w, y + h) == (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
    void = (LABELS == 9) | ((LABELS == 2) & (np.arange(6) == 5) if min_area > 1 else False)
    assert ((ids == 0) == void).all()


def test_panoptic_dataset_reads_it_and_it_is_the_same_again(root, tmp_path):
    contents = []
    for name in ('one', 'two'):
        out = convert(root, tmp_path / name, CLASSES, min_area=2)
        files = sorted(path for path in (out / 'annotations').rglob('*') if path.is_file())
        contents.append([(path.relative_to(out), path.read_bytes()) for path in files])
    assert contents[0] == contents[1]
    assert len(contents[0]) == 6
    metainfo = dict(
        classes=['car', 'sky', 'road'], thing_classes=['car'], stuff_classes=['sky', 'road']
    )
    dataset = PanopticDataset(
        data_root=str(out),
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        metainfo=metainfo,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations')],
    )
    assert len(dataset) == 2
    for item in dataset:
        assert item['img'].shape == (5, 6, 3)
        assert item['gt_bboxes_labels'].tolist() == [0]
        assert (item['gt_seg_map'] == 0).sum() == item['gt_masks'].masks.sum() == 8
        assert ((item['gt_seg_map'] == 2) == np.isin(LABELS, (1, 3))).all()


def test_annotations_go_beside_the_images_and_are_not_overwritten_unasked(root):
    convert(root, root, CLASSES)
    assert not (root / 'train').is_symlink()
    with pytest.raises(FileExistsError, match=r'panoptic_train\.json exists'):
        convert(root, root, CLASSES)
    convert(root, root, CLASSES, overwrite=True)
    names = sorted(path.name for path in (root / 'annotations').iterdir())
    assert names == ['panoptic_train', 'panoptic_train.json', 'panoptic_val', 'panoptic_val.json']


@pytest.mark.parametrize('is_upright', [True, False])
def test_labels_of_a_photograph_that_its_exif_data_turn(root, is_upright):
    """Labels are upright as it is shown, or lie as it is stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(LABELS[..., None].repeat(3, 2))
    photo.save(root / 'train' / 'a.png', exif=exif)
    labels = LABELS.T.copy() if is_upright else LABELS
    cv2.imwrite(str(root / 'trainannot' / 'a.png'), labels)
    convert(root, root, CLASSES)
    content = json.loads((root / 'annotations' / 'panoptic_train.json').read_text())
    assert (content['images'][0]['height'], content['images'][0]['width']) == labels.shape
    cv2.imwrite(str(root / 'trainannot' / 'a.png'), labels[1:])
    with pytest.raises(ValueError, match=r'a\.png has 5x6'):
        convert(root, root, CLASSES, overwrite=True)


def test_what_is_overwritten_is_there_until_all_of_the_new_is(root, monkeypatch):
    annotations = convert(root, root, CLASSES) / 'annotations'
    (annotations / 'panoptic_train' / '.DS_Store').touch()  # a file browser's
    before = {path: path.read_bytes() for path in annotations.rglob('*') if path.is_file()}

    def full(self, *_):
        raise OSError(errno.ENOSPC, 'No space left on device', str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_text', full)
        with pytest.raises(OSError, match='No space left'):
            convert(root, root, CLASSES, overwrite=True)
    after = {path: path.read_bytes() for path in annotations.rglob('*') if path.is_file()}
    assert after == before
    convert(root, root, CLASSES, overwrite=True, splits=['train'])
    after = {path: path.read_bytes() for path in annotations.rglob('*') if path.is_file()}
    assert after == {path: old for path, old in before.items() if path.name != '.DS_Store'}


def test_a_link_to_images_that_were_moved_is_named_before_anything_is_converted(root, tmp_path):
    out = convert(root, tmp_path / 'out', CLASSES)
    moved = root.rename(tmp_path / 'moved')
    data_set = semantic_data_set(moved, CLASSES)
    for name, part in data_set.parts.items():
        data_set.parts[name] = part._replace(convert=None)
    with pytest.raises(FileExistsError, match=r'out/train exists and is not .*moved/train'):
        write_data_set(out, data_set, overwrite=True)


def test_palettes_and_colours(tmp_path):
    palette = Image.fromarray(LABELS, mode='P')
    palette.putpalette([255 - i for i in range(256) for _ in range(3)])
    color_of = {0: (0, 0, 0), 1: (128, 64, 128), 2: (64, 0, 128), 3: (1, 2, 3), 9: (0, 0, 1)}
    colors = Image.fromarray(np.array([[color_of[v] for v in row] for row in LABELS], np.uint8))
    names = {'things': {'car': '#400080'}, 'stuff': {'sky': '#000000'}, 'void': '#000001'}
    names['stuff']['road'] = ['#804080', '#010203']
    (tmp_path / 'classes.json').write_text(json.dumps(names))
    by_color = ClassMap.from_file(tmp_path / 'classes.json')
    maps = []
    for name, image, classes in (('p', palette, CLASSES), ('c', colors, by_color)):
        for folder in ('train', 'trainannot'):
            (tmp_path / name / folder).mkdir(parents=True)
            image.save(tmp_path / name / folder / 'a.png')
        out = convert(tmp_path / name, tmp_path / name, classes, splits=['train'])
        png = cv2.imread(str(out / 'annotations' / 'panoptic_train' / 'a.png'))
        maps.append(rgb2id(png[..., ::-1]))
    assert (maps[0] == maps[1]).all()


@pytest.mark.parametrize(
    ('damage', 'error', 'message'),
    [
        (lambda r: (r / 'trainannot' / 'a.png').unlink(), FileNotFoundError, 'a.png'),
        (lambda r: (r / 'train' / 'a.png').unlink(), FileNotFoundError, 'a.png'),
        (lambda r: (r / 'valannot').rename(r / 'v'), FileNotFoundError, 'folder of label images'),
        (lambda r: (r / 'trainannot' / 'a.png').write_text('x'), ValueError, 'not readable'),
        (lambda r: (r / 'train' / 'a.png').write_text('x'), ValueError, 'not readable'),
        (
            lambda r: cv2.imwrite(str(r / 'trainannot' / 'a.png'), LABELS[1:]),
            ValueError,
            '6x4 pixels, but its image .* has 6x5',
        ),
        (
            lambda r: cv2.imwrite(str(r / 'trainannot' / 'a.png'), LABELS + 5),
            ValueError,
            r'a.png: the class map says nothing of 5 of its values: 5, 6, 7, 8, 14',
        ),
        (lambda r: cv2.imwrite(str(r / 'train' / 'a.jpg'), LABELS), ValueError, 'same stem'),
    ],
)
def test_errors_name_the_file(root, damage, error, message):
    damage(root)
    with pytest.raises(error, match=message):
        convert(root, root, CLASSES)
    assert not list(root.glob('annotations/*train*'))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[1]', 'got a list'),
        ('{', 'not readable as json'),
        ('{"things": {}, "stuff": {"sky": 0}}', 'things must map at least one'),
        ('{"things": {"car": 1}, "stuff": {"sky": 1}}', 'values must be unique, got 1 twice'),
        ('{"things": {"car": 1}, "stuff": {"car": 0}}', "names must be unique, got 'car' twice"),
        ('{"things": {"car": -1}, "stuff": {"sky": 0}}', 'car: a value is .* got -1'),
        ('{"things": {"car": true}, "stuff": {"sky": 0}}', 'car: a value is .* got True'),
        ('{"things": {"car": "#12345g"}, "stuff": {"sky": 0}}', "got '#12345g'"),
        ('{"things": {"car": []}, "stuff": {"sky": 0}}', 'car has no values'),
        ('{"thing": {"car": 1}, "stuff": {"sky": 0}}', "got \\['thing'\\]"),
    ],
)
def test_class_maps_that_are_refused(tmp_path, content, message):
    path = tmp_path / 'classes.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        ClassMap.from_file(path)
    assert str(path) in str(raised.value)


def test_settings_out_of_range(root):
    with pytest.raises(ValueError, match='min_area must be at least 1, got 0'):
        convert(root, root, CLASSES, min_area=0)
    with pytest.raises(ValueError, match='connectivity must be 4 or 8, got 6'):
        convert(root, root, CLASSES, connectivity=6)


def test_the_config_of_camvid_has_the_classes_of_its_class_map():
    classes = ClassMap.from_file(ROOT / 'examples' / 'camvid' / 'classes.json')
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_camvid.py')
    assert cfg.metainfo.thing_classes == list(classes.things)
    assert cfg.metainfo.stuff_classes == list(classes.stuff)
    assert (cfg.num_things_classes, cfg.num_stuff_classes) == (4, 7)


def test_the_config_of_camvid_trains_on_what_is_converted(root):
    classes = ClassMap.from_file(ROOT / 'examples' / 'camvid' / 'classes.json')
    convert(root, root, classes, min_area=1)
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_camvid.py')
    replace_data_root(cfg, str(root))
    for loader, length in ((cfg.train_dataloader, 2), (cfg.val_dataloader, 2)):
        data_set = DATASETS.build(loader.dataset)
        assert len(data_set) == length
        assert data_set[0]['inputs'].shape == (3, 180, 216)
        assert data_set[0]['data_samples'].gt_sem_seg.sem_seg.unique().numel() > 2


def test_command_line(root, capsys):
    classes = root / 'classes.json'
    classes.write_text('{"things": {"car": 2}, "stuff": {"sky": 0, "road": [1, 3]}, "void": 9}')
    main(['semantic', str(root), '--classes', str(classes)])
    assert 'touching things of one class are one' in capsys.readouterr().err
    with pytest.raises(FileExistsError, match=r'exists: overwrite it or'):
        main(['semantic', str(root), '--classes', str(classes)])
