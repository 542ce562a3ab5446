"""Annotations of other tools and formats to COCO panoptic, in small files of theirs."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.cli.convert import main
from mmbanet.datasets.cityscapes_conversion import CATEGORIES
from mmbanet.datasets.data_check import check_split, check_unused_files, find_splits
from mmbanet.datasets.findings import Findings

CLASSES = {'things': {'car': ['car', 'van'], 'person': 'person'}, 'stuff': ['road'], 'void': 'ego'}


def run(*arguments) -> None:
    main([str(argument) for argument in arguments])


def write_photo(path, height=6, width=8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))


def read(root, split, image=0) -> tuple[np.ndarray, dict, dict]:
    """(H, W) names of the classes with the number of the segment, annotations, instances."""
    content = json.loads((root / 'annotations' / f'panoptic_{split}.json').read_text())
    annotation = content['annotations'][image]
    png = root / 'annotations' / f'panoptic_{split}' / annotation['file_name']
    ids = rgb2id(np.array(Image.open(png)))
    names = {category['id']: category['name'] for category in content['categories']}
    found = np.full(ids.shape, '.', dtype=object)
    seen = {}
    for segment in annotation['segments_info']:
        name = names[segment['category_id']][0]
        seen[name] = seen.get(name, 0) + 1
        found[ids == segment['id']] = name if seen[name] == 1 else name.upper()
    path = root / 'annotations' / f'instances_{split}.json'
    return found, content, json.loads(path.read_text()) if path.exists() else None


def drawing(found: np.ndarray) -> list[str]:
    return [''.join(row) for row in found]


def assert_sound(root) -> None:
    findings, files = Findings(), {}
    for split in find_splits(root):
        files[split], _ = check_split(split, findings, lambda items, **_: items)
    check_unused_files(files, findings)
    assert {f.kind for f in findings.found} <= {'unused class'}


def files_of(root) -> dict:
    return {
        path.relative_to(root): path.read_bytes()
        for path in sorted((root / 'annotations').rglob('*'))
        if path.is_file()
    }


def square(x1, y1, x2, y2) -> list[list[float]]:
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def write_labelme(folder, name='a', **changes) -> None:
    write_photo(folder / f'{name}.jpg')
    mask = np.array([[1, 0], [1, 1]], np.uint8) * 255
    png = base64.b64encode(cv2.imencode('.png', mask)[1].tobytes()).decode()
    shapes = [
        dict(label='van', points=square(1, 1, 4, 4), shape_type='polygon', group_id=None),
        dict(label='car', points=[[3, 2], [6, 5]], shape_type='rectangle', group_id=None),
        dict(label='person', points=square(6, 0, 8, 1), shape_type='polygon', group_id=5),
        dict(label='person', points=[[6, 4], [7, 5]], shape_type='mask', mask=png, group_id=5),
        dict(label='road', points=square(0, 0, 8, 4), shape_type='polygon', group_id=None),
        dict(label='ego', points=square(0, 5, 2, 6), shape_type='polygon', group_id=None),
    ]
    content = dict(
        version='5.4.1',
        flags={},
        shapes=shapes,
        imagePath=f'{name}.jpg',
        imageData=None,
        imageHeight=6,
        imageWidth=8,
    )
    (folder / f'{name}.json').write_text(json.dumps(content | changes))


@pytest.fixture
def classes(tmp_path) -> Path:
    path = tmp_path / 'classes.json'
    path.write_text(json.dumps(CLASSES))
    return path


def test_labelme(tmp_path, classes):
    """The car was drawn after the van, and the road after all, below which it lies."""
    root = tmp_path / 'set'
    for split in ('train', 'val'):
        write_labelme(root / split)
    run('labelme', root, '--classes', classes)
    found, content, instances = read(root, 'train')
    assert drawing(found) == [
        'rrrrrrpp',
        'rcccrrrr',
        'rccCCCrr',
        'rccCCCrr',
        '...CCCp.',
        '......pp',
    ]
    assert [c['name'] for c in content['categories']] == ['car', 'person', 'road']
    assert [(a['category_id'], a['area']) for a in instances['annotations']] == [
        (1, 9),
        (1, 9),
        (2, 5),
    ]
    assert [c['name'] for c in instances['categories']] == ['car', 'person']
    assert_sound(root)


def test_a_folder_is_split_the_same_each_time(tmp_path, classes):
    root = tmp_path / 'set'
    for number in range(5):
        write_labelme(root, f'{number}')
    outs = [tmp_path / name for name in ('one', 'two')]
    for out in outs:
        run('labelme', root, '--classes', classes, '--val-share', 0.4, '--out', out)
    assert files_of(outs[0]) == files_of(outs[1])
    names = [[i['file_name'] for i in read(outs[0], s)[1]['images']] for s in ('train', 'val')]
    assert (len(names[0]), len(names[1])) == (3, 2)
    assert sorted([*names[0], *names[1]]) == [f'{number}.jpg' for number in range(5)]
    with pytest.raises(ValueError, match=r'val_share must leave .* got 0\.01 of 5 images'):
        run('labelme', root, '--classes', classes, '--val-share', 0.01, '--out', tmp_path / 'x')
    for mistake in (['0.4', '--splits', 'a', 'b'], ['1.5'], ['nan']):
        with pytest.raises(SystemExit):
            run('labelme', root, '--classes', classes, '--val-share', *mistake)
    run('labelme', root, '--classes', classes, '--val-share', 0.4)
    assert_sound(root)  # though both parts have one folder, with the annotations in it


POLYGON = dict(label='car', points=square(1, 1, 4, 4), shape_type='polygon')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(shapes=None), r'a\.json: no file of Labelme: expected "imagePath"'),
        (dict(imageHeight=None), r'a\.json: "imageHeight" and "imageWidth" must be positive'),
        (dict(imageHeight=7), r'a\.jpg: .*a\.json: the image has 6x8 .* says 7x8'),
        (dict(imagePath='../b.jpg'), r'a\.json: its image \.\./b\.jpg does not lie in'),
        (dict(imagePath='b.jpg'), r'a\.json: its image not found: .*b\.jpg'),
        (dict(shapes=[POLYGON, 3]), r'a\.json: shape 1: expected an object with a "label"'),
        (
            dict(shapes=[dict(POLYGON, label='bus')]),
            r'a\.json: the class map says nothing of "bus"',
        ),
        (dict(shapes=[dict(POLYGON, points=[[1, 2]])]), 'shape 0: a polygon needs three points'),
        (dict(shapes=[dict(POLYGON, points=[[1, 'x']])]), 'shape 0: "points" must be a list of x'),
        (dict(shapes=[dict(POLYGON, points=square(0, 0, 99, 9))]), 'reaches far out of the image'),
        (dict(shapes=[dict(POLYGON, group_id=[1])]), r'shape 0: "group_id" must be .*, got \[1\]'),
        (dict(shapes=[dict(POLYGON, shape_type='circle')]), 'a circle must have two points, got 4'),
        (dict(shapes=[dict(POLYGON, shape_type='line')]), 'a line has no area; draw a polygon'),
        (
            dict(shapes=[dict(POLYGON, shape_type='mask', points=[[0, 0], [1, 1]], mask='%')]),
            '"mask" must be a PNG in base64',
        ),
    ],
)
def test_labelme_files_that_are_refused(tmp_path, classes, changes, message):
    root = tmp_path / 'set'
    for split in ('train', 'val'):
        write_labelme(root / split, **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run('labelme', root, '--classes', classes)
    assert not list(root.glob('annotations/*'))


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task/></meta>
<image id="0" name="a.jpg" width="8" height="6">
  <tag label="sunny" source="manual"/>
  <polygon label="van" source="manual" occluded="0" points="1,1;4,1;4,4;1,4" z_order="2"/>
  <box label="car" source="manual" occluded="0" xtl="3" ytl="2" xbr="6" ybr="5" z_order="1"/>
  <mask label="person" rle="0, 1, 1, 2" left="6" top="4" width="2" height="2" z_order="0">
    <attribute name="pose">standing</attribute></mask>
  <polygon label="road" points="0.00,0.00;8.00,0.00;8.00,4.00;0.00,4.00" z_order="0"/>
</image>
<image id="1" name="deep/b.jpg" width="8" height="6">
  <ellipse label="car" cx="4" cy="3" rx="3" ry="1" rotation="90" z_order="0"/>
  <box label="person" xtl="0" ytl="0" xbr="1" ybr="1" group_id="7"/>
  <box label="person" xtl="7" ytl="5" xbr="8" ybr="6" group_id="7"/>
  <box label="person" xtl="0" ytl="2" xbr="1" ybr="3" group_id="0"/>
</image></annotations>
"""


# All images as one part.
WHOLE = ['--annotations', 'annotations.xml', '--images', 'images', '--splits', 'both']


@pytest.fixture
def cvat(tmp_path) -> Path:
    root = tmp_path / 'set'
    write_photo(root / 'images' / 'a.jpg')
    write_photo(root / 'images' / 'deep' / 'b.jpg')
    (root / 'annotations.xml').write_text(CVAT)
    return root


def test_cvat(cvat, classes):
    """The van has the highest z_order; the road lies below things of its own."""
    run('cvat', cvat, '--classes', classes, *WHOLE)
    found, content, instances = read(cvat, 'both')
    assert drawing(found) == [
        'rrrrrrrr',
        'rCCCrrrr',
        'rCCCccrr',
        'rCCCccrr',
        '...cccp.',
        '......pp',
    ]
    areas = sorted((a['image_id'], a['category_id'], a['area']) for a in instances['annotations'])
    assert areas[:3] == [(1, 1, 9), (1, 1, 9), (1, 2, 3)]
    assert [image['file_name'] for image in content['images']] == ['a.jpg', 'deep/b.jpg']
    assert_sound(cvat)
    # Turned by 90 degrees, the ellipse is 2 pixels wide and 6 high; two boxes are of one group.
    turned, *_ = read(cvat, 'both', image=1)
    assert drawing(turned) == [
        'p..cc...',
        '...cc...',
        'P..cc...',
        '...cc...',
        '...cc...',
        '...cc..p',
    ]


def test_each_shape_of_a_group_lies_at_its_own_level(cvat, classes):
    """A person before a car with one arm and behind it with the other."""
    shapes = [
        '<box label="person" xtl="0" ytl="0" xbr="2" ybr="6" z_order="2" group_id="1"/>',
        '<box label="car" xtl="0" ytl="2" xbr="8" ybr="4" z_order="1"/>',
        '<box label="person" xtl="4" ytl="0" xbr="6" ybr="6" z_order="0" group_id="1"/>',
    ]
    start, _, end = CVAT.partition('<ellipse')
    text = start + ''.join(shapes) + end[end.index('</image>') :]
    (cvat / 'annotations.xml').write_text(text)
    run('cvat', cvat, '--classes', classes, *WHOLE)
    found, _, instances = read(cvat, 'both', image=1)
    upper, middle = 'pp..pp..', 'ppcccccc'
    assert drawing(found) == [upper, upper, middle, middle, upper, upper]
    assert {a['area'] for a in instances['annotations'] if a['image_id'] == 2} == {16, 24}


def test_cvat_of_a_whole_project(cvat, classes):
    """It keeps an image in a folder of its subset."""
    (cvat / 'images' / 'Train').mkdir()
    (cvat / 'images' / 'a.jpg').rename(cvat / 'images' / 'Train' / 'a.jpg')
    text = CVAT.replace('name="a.jpg"', 'name="a.jpg" subset="Train" task_id="1"')
    (cvat / 'annotations.xml').write_text(text)
    run('cvat', cvat, '--classes', classes, *WHOLE)
    _, content, _ = read(cvat, 'both')
    assert [image['file_name'] for image in content['images']] == ['Train/a.jpg', 'deep/b.jpg']
    assert_sound(cvat)


def test_images_of_one_stem(tmp_path, cvat, classes):
    """Known before anything is converted, where the annotations name all images at once."""
    write_photo(cvat / 'images' / 'deep' / 'a.png')
    text = CVAT.replace('deep/b.jpg', 'deep/a.png').replace('"van"', '"unknown"')
    (cvat / 'annotations.xml').write_text(text)
    with pytest.raises(ValueError, match=r'^a\.jpg and deep/a\.png: two images of one stem'):
        run('cvat', cvat, '--classes', classes, *WHOLE)
    root = tmp_path / 'labelme'
    write_labelme(root / 'train', 'a')
    write_photo(root / 'train' / 'a.png')
    write_labelme(root / 'train', 'b', imagePath='a.png')
    with pytest.raises(ValueError, match=r'^a\.jpg and a\.png: two images of one stem, a\.png'):
        run('labelme', root, '--classes', classes, '--splits', 'train')
    assert not list(tmp_path.glob('*/annotations/*'))


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('<annotations>', '<x>', r'annotations\.xml: no valid XML'),
        ('<version>1.1</version>', '<track/>', r'annotations\.xml: an export of a video'),
        ('<image', '<picture', 'no valid XML'),
        ('width="8"', 'width="x"', r'annotations\.xml: image a\.jpg: "width" must be a number'),
        ('height="6"', 'height="7"', r'a\.jpg: .* the image has 6x8 pixels; .* 7x8'),
        ('name="a.jpg"', '', 'an <image> without a name'),
        ('name="a.jpg"', 'name="c.jpg"', r'image c\.jpg: its image not found: .*c\.jpg'),
        ('points="1,1;4,1;4,4;1,4"', 'points="1;2"', r'shape 0 <polygon>: "points" must be'),
        (
            'points="1,1;4,1;4,4;1,4"',
            'points="1,1"',
            'a polygon needs three points at least, got 1',
        ),
        ('rle="0, 1, 1, 2"', 'rle="0, 1"', r'shape 2 <mask>: "rle" must be .* fill 2x2 pixels'),
        ('left="6"', 'left="7"', r'reaches out of the image of 8x6 pixels'),
        ('xtl="3" ', '', r'shape 1 <box>: "xtl" must be a number, got None'),
        ('<box', '<polyline', r'shape 1 <polyline>: it has no area'),
        ('label="van"', 'label="bus"', r'image a\.jpg: the class map says nothing of "bus"'),
        ('label="van"', '', 'shape 0 <polygon>: it has no label'),
    ],
)
def test_cvat_files_that_are_refused(cvat, classes, old, new, message):
    text = (cvat / 'annotations.xml').read_text()
    assert old in text
    (cvat / 'annotations.xml').write_text(text.replace(old, new))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run('cvat', cvat, '--classes', classes, *WHOLE)
    assert not list(cvat.glob('annotations/*'))


def test_instances_and_semantic_labels(tmp_path, capsys):
    """Overlaps go by the label image, else to the smaller one; crowds lie below."""
    labels = np.full((6, 8), 7, np.uint8)
    labels[2:4, 2:4] = 1  # says: car
    write_photo(tmp_path / 'photos' / 'a.jpg')
    (tmp_path / 'labels').mkdir()
    cv2.imwrite(str(tmp_path / 'labels' / 'a.png'), labels)
    boxes = {(1, 1, 4, 4): (3, 0), (2, 2, 7, 5): (5, 0), (0, 0, 8, 3): (5, 1), (5, 4, 8, 6): (5, 0)}
    annotations = []
    for number, ((x1, y1, x2, y2), (category, crowd)) in enumerate(boxes.items()):
        mask = np.zeros((6, 8), np.uint8, order='F')
        mask[y1:y2, x1:x2] = 1
        rle = coco_mask.encode(mask)
        annotations.append(
            dict(
                id=number,
                image_id='a',
                category_id=category,
                iscrowd=crowd,
                segmentation=dict(size=[6, 8], counts=rle['counts'].decode()),
            )
        )
    content = dict(
        images=[dict(id='a', file_name='a.jpg', height=6, width=8)],
        annotations=annotations,
        categories=[dict(id=3, name='car'), dict(id=5, name='person')],
    )
    (tmp_path / 'instances.json').write_text(json.dumps(content))
    classes = tmp_path / 'classes.json'
    classes.write_text(json.dumps(dict(things=dict(car=1), stuff=dict(road=[7]))))
    command = ['instances', tmp_path / 'instances.json', '--images', tmp_path / 'photos']
    command += ['--labels', tmp_path / 'labels', '--classes', classes, '--split', 'val']
    run(*command, '--out', tmp_path / 'set')
    found, content, instances = read(tmp_path / 'set', 'val')
    # p: the crowd, P: both persons; the smaller is in front at the right bottom.
    assert drawing(found) == [
        'pppppppp',
        'pcccpppp',
        'pcccPPPp',
        'rcccPPPr',
        'rrPPPPPP',
        'rrrrrPPP',
    ]
    assert [(c['id'], c['name'], c['isthing']) for c in content['categories']] == [
        (3, 'car', 1),
        (5, 'person', 1),
        (6, 'road', 0),
    ]
    segments = content['annotations'][0]['segments_info']
    assert [(s['category_id'], s['iscrowd'], s['area']) for s in segments] == [
        (6, 0, 9),
        (5, 1, 15),
        (5, 0, 9),
        (3, 0, 9),
        (5, 0, 6),
    ]
    assert [a['area'] for a in instances['annotations']] == [9, 15, 24, 6]
    assert_sound(tmp_path / 'set')

    (tmp_path / 'labels' / 'a.png').rename(tmp_path / 'labels' / 'b.png')
    with pytest.raises(FileNotFoundError, match=r'label image of image a \(a.jpg\) not found'):
        run(*command, '--out', tmp_path / 'other')
    classes.write_text(json.dumps(dict(things=dict(bus=1), stuff=dict(road=[7]))))
    with pytest.raises(ValueError, match=r"\['bus'\] of the class map are no categories of it"):
        run(*command, '--out', tmp_path / 'other')
    classes.write_text(json.dumps(dict(stuff=dict(car=[7]))))
    with pytest.raises(ValueError, match=r"\['car'\] are stuff in the class map, but instances"):
        run(*command, '--out', tmp_path / 'other')


@pytest.fixture
def cityscapes(tmp_path) -> Path:
    """One image: road, two cars and a group of cars, sky, a rider, ego vehicle."""
    values = np.full((6, 8), 7, np.uint16)
    values[0] = 1  # ego vehicle
    values[1, :3], values[2, :3] = 26000, 26001
    values[3, :3] = 26
    values[4, 0], values[4, 1] = 25002, 23
    root = tmp_path / 'cityscapes'
    for split in ('train', 'val'):
        stem = f'{split}/ulm/ulm_000000_000019'
        write_photo(root / 'leftImg8bit' / f'{stem}_leftImg8bit.png')
        path = root / 'gtFine' / f'{stem}_gtFine_instanceIds.png'
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), values)
    return root


def test_cityscapes(cityscapes):
    run('cityscapes', cityscapes)
    found, content, instances = read(cityscapes, 'val')
    assert instances is None
    assert content['images'] == [
        dict(id=1, file_name='ulm/ulm_000000_000019_leftImg8bit.png', height=6, width=8)
    ]
    assert [
        (s['id'], s['category_id'], s['area'], s['bbox'], s['iscrowd'])
        for s in content['annotations'][0]['segments_info']
    ] == [
        (7, 0, 29, [0, 1, 8, 5], 0),
        (23, 10, 1, [1, 4, 1, 1], 0),
        (26, 13, 3, [0, 3, 3, 1], 1),
        (25002, 12, 1, [0, 4, 1, 1], 0),
        (26000, 13, 3, [0, 1, 3, 1], 0),
        (26001, 13, 3, [0, 2, 3, 1], 0),
    ]
    assert drawing(found[:1]) == ['........']
    assert content['categories'] == CATEGORIES
    things = [c['name'] for c in CATEGORIES if c['isthing']]
    assert things == [
        'person',
        'rider',
        'car',
        'truck',
        'bus',
        'train',
        'motorcycle',
        'bicycle',
    ]
    assert sorted(c['id'] for c in CATEGORIES) == list(range(19))
    assert CATEGORIES[0]['id'] == 11  # as in the official labels.py
    assert_sound(cityscapes)


def test_cityscapes_files_that_are_refused(cityscapes):
    path = next((cityscapes / 'gtFine' / 'train').rglob('*.png'))
    cv2.imwrite(str(path), np.full((6, 8), 99, np.uint16))
    with pytest.raises(ValueError, match=r'instanceIds\.png: 99 is no id of Cityscapes'):
        run('cityscapes', cityscapes)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'instanceIds\.png not found, the annotation of'):
        run('cityscapes', cityscapes)
    (cityscapes / 'gtFine').rename(cityscapes / 'gt')
    with pytest.raises(FileNotFoundError, match=r'unpack gtFine_trainvaltest\.zip'):
        run('cityscapes', cityscapes)
    assert not list(cityscapes.glob('annotations/*'))
