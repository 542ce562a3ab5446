"""Readers of who is in front: files written in the documented formats, by hand and malformed."""

import json
from pathlib import Path

import numpy as np
import pytest
from panopticapi.utils import id2rgb
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.datasets import CocoaAnnotations, CocoOrder, KinsAnnotations

SIZE = 20, 30


def box(x1, y1, x2, y2):
    mask = np.zeros(SIZE, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def polygon(x1, y1, x2, y2):
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def rle(mask):
    found = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': list(SIZE), 'counts': found['counts'].decode()}


def image(image_id=1):
    return dict(id=image_id, file_name=f'{image_id}.jpg', height=SIZE[0], width=SIZE[1])


# From front to back: a man, the sky before a car that nobody hides, and another man.
MAN, SKY, CAR, REAR = (2, 4, 12, 16), (0, 0, 30, 4), (8, 8, 20, 18), (1, 2, 10, 10)


def cocoa():
    man, car, rear = box(*MAN), box(*CAR), box(*REAR)
    regions = [
        dict(segmentation=polygon(*CAR), order=3, isStuff=0, name='car', occlude_rate=0.2),
        dict(segmentation=polygon(*MAN), order=1, isStuff=0, name='Man ', occlude_rate=0),
        dict(segmentation=[polygon(*SKY)], order=2, isStuff=1, name='sky', occlude_rate=0),
        dict(segmentation=polygon(*REAR), order=4, isStuff=0, name='man', occlude_rate=0.5),
    ]
    regions[0].update(visible_mask=rle(car & ~man), invisible_mask=rle(car & man))
    regions[3].update(invisible_mask=rle(rear & (man | car | box(*SKY))))
    annotation = dict(id=7, image_id=1, regions=regions, size=4, author='a', url='http://x/1.jpg')
    return dict(images=[image(), image(2)], annotations=[annotation])


def write(folder, content):
    path = folder / 'annotations.json'
    path.write_text(json.dumps(content))
    return str(path)


def test_cocoa(tmp_path):
    file = CocoaAnnotations(write(tmp_path, cocoa()))
    assert len(file) == 1
    found = file[0]
    assert found.file_name == '1.jpg'
    # Things in depth order: man, car, man; the sky is stuff.
    assert found.categories[0] == found.categories[2] != found.categories[1]
    assert (found.masks == np.stack([box(*MAN), box(*CAR), box(*REAR)])).all()
    expected = np.full(SIZE, -1)
    for k, mask in reversed(list(enumerate([box(*MAN), box(*CAR), box(*REAR) & ~box(*SKY)]))):
        expected[mask] = k
    assert (found.owner == expected).all()
    assert found.order.tolist() == [[0, 1, 1], [-1, 0, 1], [-1, -1, 0]]
    assert found.pairs == [(0, 1), (0, 2), (1, 2)]


def test_cocoa_regions_that_share_no_pixel_are_not_in_order(tmp_path):
    content = cocoa()
    content['annotations'][0]['regions'][3]['segmentation'] = polygon(22, 5, 29, 15)
    del content['annotations'][0]['regions'][3]['invisible_mask']
    found = CocoaAnnotations(write(tmp_path, content))[0]
    assert found.pairs == [(0, 1)]
    assert (found.owner[box(22, 5, 29, 15)] == 2).all()


@pytest.mark.parametrize(
    ('text', 'pairs'), [('', []), ('1-3', [(0, 1)]), ('4-3,2-4,1-4', [(0, 2), (2, 1)])]
)
def test_cocoa_depth_constraints_say_the_order_of_pairs(tmp_path, text, pairs):
    content = cocoa()
    content['annotations'][0]['depth_constraint'] = text
    found = CocoaAnnotations(write(tmp_path, content))[0]
    assert found.pairs == pairs
    assert (found.order == -found.order.T).all()


def kins():
    def instance(annotation_id, shape, visible, cluster, order, category_id=4):
        return dict(
            id=annotation_id,
            image_id=1,
            category_id=category_id,
            iscrowd=0,
            a_segm=[polygon(*shape)],
            a_bbox=[*shape[:2], shape[2] - shape[0], shape[3] - shape[1]],
            i_segm=visible,
            i_bbox=[0, 0, 1, 1],
            oco_id=cluster,
            ico_id=order,
        )

    man, car = box(*MAN), box(*CAR)
    annotations = [
        instance(1, CAR, rle(car & ~man), 1, 2, category_id=6),
        instance(2, MAN, [polygon(*MAN)], 1, 1),
        instance(3, (18, 4, 28, 12), rle(box(20, 4, 28, 12)), 2, 1),
    ]
    categories = [dict(id=4, name='car'), dict(id=6, name='van')]
    return dict(images=[image(), image(2)], annotations=annotations, categories=categories)


def test_kins(tmp_path):
    file = KinsAnnotations(write(tmp_path, kins()))
    assert len(file) == 2
    found = file[0]
    assert found.file_name == '1.jpg'
    assert found.categories.tolist() == [6, 4, 4]
    assert (found.masks == np.stack([box(*CAR), box(*MAN), box(18, 4, 28, 12)])).all()
    # The third overlaps the first, in another cluster: nothing is known of the two.
    assert found.order.tolist() == [[0, -1, 0], [1, 0, 0], [0, 0, 0]]
    expected = np.full(SIZE, -1)
    expected[box(20, 4, 28, 12)], expected[box(*CAR)], expected[box(*MAN)] = 2, 0, 1
    assert (found.owner == expected).all()
    empty = file[1]
    assert (len(empty.masks), empty.order.shape, empty.pairs) == (0, (0, 0), [])
    assert (empty.owner == -1).all()


@pytest.mark.parametrize('key', ['l_order', 'layer_order'])
def test_kins_order_without_clusters(tmp_path, key):
    content = kins()
    for annotation in content['annotations']:
        del annotation['oco_id']
        annotation[key] = annotation.pop('ico_id')
    found = KinsAnnotations(write(tmp_path, content))[0]
    assert found.order.tolist() == [[0, -1, -1], [1, 0, 0], [1, 0, 0]]


def test_kins_crowds_are_left_out(tmp_path):
    content = kins()
    content['annotations'][0]['iscrowd'] = 1
    found = KinsAnnotations(write(tmp_path, content))[0]
    assert found.categories.tolist() == [4, 4]


def region(key, value):
    def spoil(content):
        content['annotations'][0]['regions'][1][key] = value

    return spoil


def entry(key, value, number=0):
    def spoil(content):
        content['annotations'][number][key] = value

    return spoil


def without(key, *place):
    def spoil(content):
        for step in place:
            content = content[step]
        del content[key]

    return spoil


REGION = r'annotations.json: image 1 \(1.jpg\), region 1: '
SMALL_RLE = dict(size=[3, 4], counts=[12])


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (without('annotations'), '"annotations" must be a list, got nothing'),
        (entry('image_id', 9), r'annotations.json: entry 0 .*image_id 9 is not in "images"'),
        (entry('regions', None), r'image 1 \(1.jpg\): .*"regions" must be a list, got None'),
        (entry('regions', [4]), r'image 1 \(1.jpg\), region 0: expected an object, got 4'),
        (region('order', '1'), REGION + '"order" must be an integer'),
        (region('order', 0), REGION + '"order" must be an integer'),
        (region('order', 3), REGION + 'two regions have the order 3'),
        (without('order', 'annotations', 0, 'regions', 1), REGION + '"order" .* got nothing'),
        (region('isStuff', 2), REGION + '"isStuff" must be 0 or 1, got 2'),
        (region('segmentation', [1, 2, 3]), REGION + 'a polygon must have an even count'),
        (region('segmentation', [1, 2, 3, 4]), REGION + '.*at least three points'),
        (region('segmentation', []), REGION + '.*at least three points'),
        (region('segmentation', 'x'), REGION + 'segmentation must be a list of polygons or an RLE'),
        (without('segmentation', 'annotations', 0, 'regions', 1), REGION + 'it has no "segmen'),
        (region('visible_mask', SMALL_RLE), REGION + r'a mask of the size \[3, 4\]'),
        (region('invisible_mask', []), REGION + 'expected a run-length encoded mask'),
        (entry('depth_constraint', '1>2'), r'image 1 \(1.jpg\): "depth_constraint" must be a text'),
        (entry('depth_constraint', None), r'image 1 \(1.jpg\): "depth_constraint" must be a text'),
        (entry('depth_constraint', '1-9'), r'has 1-9, but the orders .* are \[1, 2, 3, 4\]'),
        (entry('depth_constraint', '1-3,3-1'), 'has 1-3 and the opposite'),
        (entry('depth_constraint', '3-3'), 'has 3-3 and the opposite'),
    ],
)
def test_malformed_cocoa(tmp_path, spoil, message):
    content = cocoa()
    spoil(content)
    refused(CocoaAnnotations, write(tmp_path, content), message)


ENTRY = r'annotations.json: image 1 \(1.jpg\), entry 0 of "annotations": '


@pytest.mark.parametrize(
    ('spoil', 'message'),
    [
        (without('categories'), '"categories" must be a list, got nothing'),
        (entry('image_id', '1'), 'entry 0 .*image_id \'1\' is not in "images"'),
        (entry('category_id', 5), ENTRY + 'category_id 5 is not in the categories'),
        (entry('iscrowd', 'no'), ENTRY + '"iscrowd" must be 0 or 1'),
        (without('ico_id', 'annotations', 0), ENTRY + 'no order: it has none of ico_id, l_order'),
        (entry('ico_id', 1.5), ENTRY + '"ico_id" must be an integer, got 1.5'),
        (without('oco_id', 'annotations', 0), ENTRY + '"oco_id" must be .*, got nothing'),
        (without('a_segm', 'annotations', 0), ENTRY + 'it has no "a_segm"'),
        (entry('a_segm', [[1, 2]]), ENTRY + '"a_segm": .*at least three points'),
        (entry('i_segm', SMALL_RLE), ENTRY + r'"i_segm": a mask of the size \[3, 4\]'),
    ],
)
def test_malformed_kins(tmp_path, spoil, message):
    content = kins()
    spoil(content)
    refused(KinsAnnotations, write(tmp_path, content), message)


def refused(reader, path, message):
    with pytest.raises(ValueError, match=message) as raised:
        reader(path)
    assert '\n' not in str(raised.value)
    assert path in str(raised.value)


CATEGORIES = [
    dict(id=3, name='person', isthing=1),
    dict(id=5, name='tie', isthing=1),
    dict(id=40, name='wall', isthing=0),
]
TIE = (5, 6, 7, 12)


@pytest.fixture
def coco(tmp_path):
    """A tie on a man in front of another man, before a wall, and crowds."""
    shown = [(11, TIE, 5, 0), (12, MAN, 3, 0), (13, CAR, 3, 0), (14, (25, 0, 30, 20), 3, 1)]
    ids = np.full(SIZE, 99)
    for segment_id, shape, _, _ in reversed(shown):
        ids[box(*shape)] = segment_id
    segments = [
        dict(id=i, category_id=category, iscrowd=crowd, bbox=[0, 0, 1, 1], area=1)
        for i, _, category, crowd in [*shown, (99, None, 40, 0)]
    ]
    (tmp_path / 'png').mkdir()
    Image.fromarray(id2rgb(ids)).save(tmp_path / 'png' / '1.png')
    panoptic = dict(
        images=[image(), image(2)],
        annotations=[dict(image_id=1, file_name='1.png', segments_info=segments)],
        categories=CATEGORIES,
    )
    instances = dict(images=[image(), image(2)], categories=CATEGORIES[:2])
    instances['annotations'] = [
        dict(id=i, image_id=1, category_id=category, iscrowd=crowd, segmentation=rle(box(*shape)))
        for i, (_, shape, category, crowd) in enumerate(
            [*reversed(shown), (0, (0, 0, 30, 20), 3, 1)]
        )
    ]
    for name, content in (('panoptic', panoptic), ('instances', instances)):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    return [str(tmp_path / name) for name in ('panoptic.json', 'png', 'instances.json')]


def test_coco(coco):
    file = CocoOrder(*coco)
    assert file.image_ids == [1]
    found = file[0]
    assert found.categories.tolist() == [3, 3, 5]
    assert (found.masks == np.stack([box(*CAR), box(*MAN), box(*TIE)])).all()
    # The man shares 32 of his 120 pixels, the rear man's 120; the tie lies on the man alone.
    assert found.order.tolist() == [[0, -1, 0], [1, 0, -1], [0, 1, 0]]
    expected = np.full(SIZE, -1)
    for k, shape in ((0, CAR), (1, MAN), (2, TIE)):
        expected[box(*shape)] = k
    assert (found.owner == np.where(box(25, 0, 30, 20), -1, expected)).all()
    assert CocoOrder(*coco, overlap_thr=0.3)[0].pairs == [(2, 1)]


def test_coco_files_of_other_images(coco):
    content = json.loads(Path(coco[2]).read_text())
    content['images'].pop()
    Path(coco[2]).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'instances.json lacks 1 image of .*panoptic.json'):
        CocoOrder(*coco)


def test_coco_png_of_another_image(coco):
    Image.fromarray(id2rgb(np.full(SIZE, 77))).save(f'{coco[1]}/1.png')
    with pytest.raises(ValueError, match=r'1.png: image 1 \(1.jpg\): 5 of its 5 segments'):
        CocoOrder(*coco)[0]
