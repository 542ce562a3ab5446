"""The reader of COCO's instance annotations: what it makes of a file, and what it refuses."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmbanet.datasets.findings import Findings
from mmbanet.datasets.instance_annotations import InstanceAnnotations
from mmbanet.datasets.segmentation import encode_segmentation

HEIGHT, WIDTH = 12, 16
# Left half, column by column as COCO's RLE runs: 8 columns of 12 pixels.
LEFT_HALF = [0, 96, 96]
SQUARE = [2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]


def annotation(**changes) -> dict:
    """A square of 4x4 pixels at (2, 2); None takes a key out."""
    values = dict(
        id=11,
        image_id=7,
        category_id=3,
        bbox=[2, 2, 4, 4],
        area=16,
        iscrowd=0,
        segmentation=[SQUARE],
    )
    return {key: value for key, value in (values | changes).items() if value != 'absent'}


def content(*annotations, **changes) -> dict:
    return (
        dict(
            images=[
                dict(id=7, file_name='seven.jpg', height=HEIGHT, width=WIDTH),
                dict(id=8, file_name='eight.jpg', height=HEIGHT, width=WIDTH),
            ],
            annotations=list(annotations or [annotation()]),
            categories=[dict(id=3, name='cat'), dict(id=1, name='dog')],
        )
        | changes
    )


def write(tmp_path, data) -> str:
    path = tmp_path / 'instances.json'
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def rle(counts, size=(HEIGHT, WIDTH)) -> dict:
    return dict(segmentation=dict(size=list(size), counts=counts))


def test_masks_are_those_of_pycocotools(tmp_path):
    """Every form of a mask, against ``COCO.annToMask`` of the same file."""
    rng = np.random.default_rng(0)
    noise = rng.random((HEIGHT, WIDTH)) < 0.5
    rle = coco_mask.encode(np.asfortranarray(noise, dtype=np.uint8))
    compressed = dict(size=[HEIGHT, WIDTH], counts=rle['counts'].decode())
    forms = [
        [SQUARE],
        [SQUARE, [8.5, 1.25, 15, 1, 12, 10.75]],
        [SQUARE, [5, 5]],  # annotation tools leave single points behind
        [[-3, -2, 20, -2, 20, 6.5, -3, 6.5]],  # beyond the image
        compressed,
        dict(size=[HEIGHT, WIDTH], counts=LEFT_HALF),
    ]
    items = [
        annotation(id=i, segmentation=form, bbox='absent', iscrowd=i % 2)
        for i, form in enumerate(forms)
    ]
    path = write(tmp_path, content(*items))
    # pycocotools takes a point for a broken polygon.
    official = COCO()
    official.dataset = content(*items[:2], annotation(id=2), *items[3:])
    official.createIndex()
    found = InstanceAnnotations(path).instances
    assert found[8] == []
    assert len(found[7]) == len(forms)
    for i, instance in enumerate(found[7]):
        mask = coco_mask.decode(encode_segmentation(instance.segmentation, HEIGHT, WIDTH))
        assert (mask == official.annToMask(official.anns[i])).all()
        rows, columns = np.nonzero(mask)
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert instance.box == box
        assert instance.is_crowd == i % 2
        assert instance.category_id == 3


def test_boxes_are_those_of_the_file_where_they_are_a_pixel_wide(tmp_path):
    boxes = [[1.5, 2.25, 4, 4.5], [2, 2, 0.5, 4], [2, 2, 4, 0], None, 'absent']
    items = [annotation(id=i, bbox=box) for i, box in enumerate(boxes)]
    found = InstanceAnnotations(write(tmp_path, content(*items))).instances[7]
    assert [instance.box for instance in found] == [(1.5, 2.25, 5.5, 6.75)] + [(2, 2, 6, 6)] * 4


@pytest.mark.parametrize(
    'changes',
    [
        dict(bbox=[2, 2, 6, 6]),  # x1, y1, x2, y2
        dict(bbox=[1, 1, 2, 2]),  # half the image's size
        dict(bbox=[0, 0, 4, 4], **rle(LEFT_HALF)),
        dict(bbox=[2, 2, 7, 4], segmentation=[SQUARE, [8, 2, 13, 2, 13, 6]]),
    ],
)
def test_a_box_that_is_not_the_masks_gives_way_to_it(tmp_path, changes):
    """pycocotools leaves it, and a box head would learn it."""
    path, findings = write(tmp_path, content(annotation(**changes))), Findings()
    (instance,) = InstanceAnnotations(path, notices=findings).instances[7]
    mask = encode_segmentation(instance.segmentation, HEIGHT, WIDTH)
    x, y, w, h = coco_mask.toBbox(mask)
    assert instance.box == (x, y, x + w, y + h)
    (found,) = findings.found
    assert (found.kind, found.is_error) == ('box of another mask', False)
    assert f'annotation 11: its bbox (x, y, width, height) is {changes["bbox"]}' in found.message


def test_a_box_may_end_where_the_image_does(tmp_path):
    beyond = [-3, 2, 6, 2, 6, 6, -3, 6]
    items = [
        annotation(id=i, bbox=[x, 2, 6 - x, 4], segmentation=[beyond]) for i, x in [(1, -3), (2, 0)]
    ]
    found = InstanceAnnotations(write(tmp_path, content(*items))).instances[7]
    assert [instance.box for instance in found] == [(-3, 2, 6, 6), (0, 2, 6, 6)]


def test_an_instance_without_a_pixel_has_no_box(tmp_path):
    """As annotation 918 of instances_train2017.json."""
    line = [9.65, 8.33, 9.65, 8.33, 10.68, 8.33, 10.68, 8.33]
    item = annotation(segmentation=[line], bbox=[9.65, 8.33, 1.03, 0.0], area=0.0)
    (instance,) = InstanceAnnotations(write(tmp_path, content(item))).instances[7]
    assert instance.box is None


@pytest.mark.parametrize('area', [0, -1, 'big', None, float('nan'), 'absent'])
def test_areas_are_not_used(tmp_path, area):
    file = write(tmp_path, content(annotation(area=area)))
    assert len(InstanceAnnotations(file).instances[7]) == 1


BROKEN = {
    'no mask': (dict(segmentation='absent'), 'no "segmentation"'),
    'mask is null': (dict(segmentation=None), 'must be a list of polygons or an RLE'),
    'no polygon': (dict(segmentation=[]), 'a polygon of at least three points'),
    'one flat polygon': (dict(segmentation=SQUARE), 'each a list of numbers'),
    'polygon of a text': (dict(segmentation=[['a'] * 6]), 'each a list of numbers'),
    'polygon with null': (dict(segmentation=[[*SQUARE, None, 1]]), 'each a list of numbers'),
    'polygon of bools': (dict(segmentation=[[True] * 6]), 'each a list of numbers'),
    'odd polygon': (dict(segmentation=[[*SQUARE, 1]]), 'an even count of numbers.*got 9'),
    'two points': (dict(segmentation=[[2, 2, 6, 6]]), 'a polygon of at least three points'),
    'NaN in a polygon': (dict(segmentation=[[*SQUARE, float('nan'), 1]]), r'NaN|not numbers'),
    'infinite polygon': (dict(segmentation=[[*SQUARE, float('inf'), 1]]), 'far out of the image'),
    'huge polygon': (dict(segmentation=[[*SQUARE, 10**400, 1]]), 'far out of the image'),
    'polygon elsewhere': (
        dict(segmentation=[[x + 900 for x in SQUARE]], bbox='absent'),
        'far out of the image of 16x12 pixels',
    ),
    'RLE without counts': (dict(segmentation=dict(size=[HEIGHT, WIDTH])), 'size and counts'),
    'RLE of another size': (rle([0, 96, 96], (WIDTH, HEIGHT)), r'\[16, 12\].*\[12, 16\]'),
    'RLE too short': (rle([0, 96]), 'do not fill 12x16'),
    'RLE too long': (rle([0, 96, 97]), 'do not fill 12x16'),
    'RLE with a negative run': (rle([0, 200, -8]), 'do not fill 12x16'),
    'RLE with a float': (rle([0, 96.0, 96.0]), 'do not fill 12x16'),
    'RLE of nothing': (rle([]), 'do not fill 12x16'),
    'RLE is garbage': (rle('garbage!'), 'counts'),
    'RLE in Greek': (rle('αβγ'), 'counts'),
    'RLE cut off': (rle('0T3T'), 'counts'),
    'RLE is empty text': (rle(''), 'do not fill'),
    'RLE without a pixel': (rle([192]), 'the mask has no pixel'),
    'box of three': (dict(bbox=[1, 2, 3]), '"bbox" must be four finite numbers'),
    'box of texts': (dict(bbox=['1', 2, 3, 4]), '"bbox" must be four finite numbers'),
    'box is a text': (dict(bbox='1 2 3 4'), '"bbox" must be four finite numbers'),
    'NaN in a box': (dict(bbox=[1, 2, float('nan'), 4]), '"bbox" must be four finite numbers'),
    'infinite box': (dict(bbox=[1, 2, float('inf'), 4]), '"bbox" must be four finite numbers'),
    'negative width': (dict(bbox=[6, 2, -4, 4]), '"bbox" must be four finite numbers'),
    'box outside': (dict(bbox=[100, 2, 4, 4]), 'outside of the image of 16x12'),
    'box before': (dict(bbox=[-9, 2, 4, 4]), 'outside of the image of 16x12'),
    'box beside its mask': (dict(bbox=[9, 8, 4, 4]), 'lies apart from the mask'),
    'unknown category': (dict(category_id=2), 'category_id 2 is not in the categories'),
    'category as text': (dict(category_id='3'), "category_id '3' is not in the categories"),
    'category missing': (dict(category_id='absent'), 'category_id nothing is not in'),
    'crowd is 2': (dict(iscrowd=2), '"iscrowd" must be 0 or 1, got 2'),
    'crowd is a text': (dict(iscrowd='no'), '"iscrowd" must be 0 or 1'),
}


@pytest.mark.parametrize(('changes', 'problem'), BROKEN.values(), ids=BROKEN)
def test_broken_annotation(tmp_path, changes, problem):
    good = annotation(id=1)
    path = write(tmp_path, content(good, annotation(**changes)))
    with pytest.raises(
        ValueError, match=rf'instances\.json: image 7 \(seven\.jpg\), annotation 11: .*{problem}'
    ):
        InstanceAnnotations(path)


PANOPTIC = [dict(image_id=7, file_name='seven.png', segments_info=[])]
BROKEN_FILES = {
    'panoptic': (content(annotations=PANOPTIC), 'segments_info.*different files'),
    'captions': (dict(images=[], annotations=[]), '"categories" must be a list, got nothing'),
    'a list': ([], 'expected a JSON object'),
    'cut off': (json.dumps(content())[:-9], 'no valid JSON'),
    'no annotations': ({k: v for k, v in content().items() if k != 'annotations'}, 'annotations'),
    'annotations by id': (content(annotations={'11': annotation()}), 'must be a list'),
    'annotation is a list': (content([1, 2]), 'entry 0 of "annotations"'),
    'no id': (content(annotation(id='absent')), '"id" must be an integer'),
    'id twice': (content(annotation(), annotation()), 'annotation 11: two annotations'),
    'image unknown': (content(annotation(image_id=9)), 'annotation 11: its image_id 9 is not in'),
    'image as text': (content(annotation(image_id='7')), "its image_id '7' is not in"),
    'image missing': (content(annotation(image_id='absent')), 'its image_id nothing is not in'),
    'image as list': (content(annotation(image_id=[7])), r'its image_id \[7\] is not in'),
    'image twice': (content(images=content()['images'] * 2), 'image 7 .*two images'),
    'image without size': (content(images=[dict(id=7, file_name='seven.jpg')]), '"height"'),
    'category twice': (
        content(categories=[dict(id=3, name='cat'), dict(id=3, name='dog')]),
        'category 3.*two categories have this id',
    ),
    'name twice': (
        content(categories=[dict(id=3, name='cat'), dict(id=1, name='cat')]),
        'two categories have this name',
    ),
}


@pytest.mark.parametrize(('data', 'problem'), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_broken_file(tmp_path, data, problem):
    with pytest.raises(ValueError, match=rf'instances\.json: .*{problem}'):
        InstanceAnnotations(write(tmp_path, data))


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'not found: .*nowhere\.json'):
        InstanceAnnotations(str(tmp_path / 'nowhere.json'))
