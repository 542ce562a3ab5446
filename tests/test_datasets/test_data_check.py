"""``mmbanet check``: it finds all that loaders refuse, and what they do not see."""

import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from panopticapi.utils import id2rgb
from pycocotools import mask as coco_mask

from mmbanet.cli.check import main
from mmbanet.datasets import PanopticDataset
from mmbanet.datasets.data_check import Split, check_split, check_unused_files
from mmbanet.datasets.findings import Findings

from ..conftest import COCO_SAMPLE

CATEGORIES = [
    dict(id=4, name='cat', isthing=1),
    dict(id=2, name='dog', isthing=1),
    dict(id=9, name='sky', isthing=0),
]


@pytest.fixture
def root(tmp_path):
    """Two images of 8x6 pixels: sky, a cat, a dog."""
    ids = np.full((6, 8), 500)
    ids[1:4, 1:4], ids[2:5, 5:7] = 7, 70000
    ids[5] = 0
    (tmp_path / 'annotations' / 'panoptic_val').mkdir(parents=True)
    (tmp_path / 'val').mkdir()
    segments = [
        dict(id=500, category_id=9, area=25, bbox=[0, 0, 8, 5], iscrowd=0),
        dict(id=7, category_id=4, area=9, bbox=[1, 1, 3, 3], iscrowd=0),
        dict(id=70000, category_id=2, area=6, bbox=[5, 2, 2, 3], iscrowd=0),
    ]
    content = dict(images=[], annotations=[], categories=CATEGORIES)
    for name in ('a', 'b'):
        rgb = id2rgb(ids)[..., ::-1]
        cv2.imwrite(str(tmp_path / 'annotations' / 'panoptic_val' / f'{name}.png'), rgb)
        cv2.imwrite(str(tmp_path / 'val' / f'{name}.jpg'), rgb)
        content['images'].append(dict(id=name, file_name=f'{name}.jpg', height=6, width=8))
        content['annotations'].append(
            dict(image_id=name, file_name=f'{name}.png', segments_info=segments)
        )
    (tmp_path / 'annotations' / 'panoptic_val.json').write_text(json.dumps(content))
    return tmp_path


def edit(root, change, name='panoptic_val'):
    path = root / 'annotations' / f'{name}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def segment(content, image=0, number=0) -> dict:
    return content['annotations'][image]['segments_info'][number]


def check(root) -> list:
    findings, split = Findings(), Split.of(root / 'annotations' / 'panoptic_val.json')
    found = check_split(split, findings, lambda x, **_: x)
    if found is not None:
        check_unused_files({split: found[0]}, findings)
    return findings.found


def write_png(root, ids):
    png = root / 'annotations' / 'panoptic_val' / 'a.png'
    cv2.imwrite(str(png), id2rgb(np.asarray(ids))[..., ::-1])


def instances(categories, *masks) -> dict:
    rles = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    return dict(
        images=[dict(id=name, file_name=f'{name}.jpg', height=6, width=8) for name in 'ab'],
        categories=categories,
        annotations=[
            dict(
                id=i,
                image_id='a',
                category_id=4,
                segmentation=dict(size=[6, 8], counts=rle['counts'].decode()),
            )
            for i, rle in enumerate(rles)
        ],
    )


def test_a_sound_data_set_has_no_findings(root, capsys):
    assert check(root) == []
    main([str(root)])
    printed = capsys.readouterr().out
    assert '2 images, 2 with a readable map; 6 segments, 0 of crowds; 16.7% void' in (printed)
    assert '  dog    thing         2         2\n' in printed
    assert printed.endswith('\nnothing is wrong\n')


@pytest.mark.parametrize(
    ('damage', 'kind', 'message'),
    [
        (lambda c: c.pop('images'), 'file', '"images" must be a list'),
        (lambda c: c['categories'][0].pop('isthing'), 'file', '"isthing" must be 1 for'),
        (lambda c: segment(c).update(id=[7]), 'segment', r'"id" must be .*, got \[7\]'),
        (lambda c: c['categories'][0].update(name='sky'), 'category', 'two categories have this'),
        (lambda c: [k.update(isthing=0) for k in c['categories']], 'classes', 'thing_classes is'),
        (lambda c: c['categories'].reverse(), 'class order', 'stuff stands before things'),
        (lambda c: c['images'][0].update(id='b'), 'image', 'two images have this id'),
        (lambda c: c['images'][0].update(height=7), 'photograph', 'the image has 6x8 pixels'),
        (lambda c: c['images'][0].update(height=7), 'PNG', 'the PNG has 6x8 pixels'),
        (
            lambda c: c['images'][0].update(file_name='x.jpg'),
            'photograph',
            r'image a \(x\.jpg\) not found',
        ),
        (lambda c: c['images'][0].update(file_name='b.jpg'), 'name', '2 entries name the image b'),
        (lambda c: c['images'][0].update(file_name='b.jpg'), 'unused file', 'the first is a.jpg'),
        (lambda c: c['annotations'].pop(), 'unannotated', 'left out, not annotated: 1 of 2 images'),
        (lambda c: c['annotations'][0].update(image_id='b'), 'annotation', 'two annotations are'),
        (lambda c: c['annotations'][0].update(file_name='x.png'), 'PNG', 'not found: .*x.png'),
        (lambda c: c['annotations'][0].update(segments_info=[]), 'empty', 'without a segment'),
        (lambda c: segment(c).update(category_id=3), 'segment', '3 is not in the categories'),
        (lambda c: segment(c).update(id=0), 'segment', r'"id" must be .* \(0 is void\), got 0'),
        (lambda c: segment(c).update(id=7), 'segment', 'two segments of this image have this id'),
        (lambda c: segment(c).update(id=8), 'missing', r'listed segments \[8\] are not in the PNG'),
        (lambda c: segment(c).update(id=8), 'unlisted', r'ids \[500\] of the PNG are not listed'),
        (lambda c: segment(c).update(iscrowd=2), 'segment', '"iscrowd" must be 0 or 1, got 2'),
        (lambda c: segment(c).update(iscrowd=1), 'crowd', r'segment 500: stuff \("sky"\) as a'),
        (lambda c: segment(c).update(area=24), 'other area', 'is 24 in the .*, 25 pixels in the'),
        (lambda c: segment(c).update(bbox=[0, 0, 8, 2]), 'other bbox', r'\[0, 0, 8, 5\] in the'),
        (lambda c: segment(c).pop('area'), 'area', '1 segment without a usable "area"'),
        (lambda c: segment(c, 0, 1).update(category_id=9), 'stuff twice', '2 segments are "sky"'),
        (
            lambda c: [segment(c, i, k).update(category_id=4) for i in (0, 1) for k in (0, 1, 2)],
            'unused class',
            '2 classes of 3 without a segment: dog, sky',
        ),
    ],
)
def test_what_is_wrong_is_found(root, damage, kind, message):
    edit(root, damage)
    found = [f for f in check(root) if f.kind == kind]
    assert any(re.search(message, f.message) for f in found), check(root)


def test_all_errors_are_found_at_once(root, capsys, tmp_path):
    """A loader tells the first of them."""

    def damage(content):
        for image in (0, 1):
            segment(content, image, 0)['category_id'] = 3
            segment(content, image, 1)['id'] = -1
        content['images'][1]['file_name'] = 'nowhere.jpg'

    edit(root, damage)
    with pytest.raises(ValueError, match='segment 500: category_id 3 is not in'):
        PanopticDataset(
            data_root=str(root),
            ann_file='annotations/panoptic_val.json',
            data_prefix=dict(img='val', seg='annotations/panoptic_val'),
            pipeline=[],
            metainfo=dict(
                classes=['cat', 'dog', 'sky'], thing_classes=['cat', 'dog'], stuff_classes=['sky']
            ),
        )
    with pytest.raises(SystemExit, match=r'^mmbanet check: 5 errors, see above$'):
        main([str(root), '--examples', '1', '--json', str(tmp_path / 'found.json')])
    printed = capsys.readouterr().out
    for line in (
        r'error, segment: 2\n  .*: image a \(a\.jpg\), segment 500: category_id 3 .*\n  and 1 more',
        r'error, segment: 2\n  .*: image a \(a\.jpg\): segment 1 of its list: "id" must',
        r'error, photograph: 1\n  image b \(nowhere\.jpg\) not found: ',
        r'warning, unused file: 1\n',
    ):
        assert re.search(line, printed), line
    assert printed.rindex('error,') < printed.index('warning,')
    found = json.loads((tmp_path / 'found.json').read_text())
    assert (found['errors'], len(found['findings'])) == (5, 5 + found['warnings'])


def test_a_number_of_examples_below_0(root, capsys):
    with pytest.raises(SystemExit):
        main([str(root), '--examples', '-1'])
    assert "--examples: expected a whole number, 0 at least, got '-1'" in capsys.readouterr().err


def test_a_png_of_another_image_and_one_that_is_none(root):
    write_png(root, np.full((6, 8), 3))
    assert any(f.is_error and 'it is the PNG of another image' in f.message for f in check(root))
    (root / 'annotations' / 'panoptic_val' / 'b.png').write_bytes(b'GIF')
    assert any(f.is_error and 'not readable as a PNG' in f.message for f in check(root))


def test_missing_folders_are_named(root):
    (root / 'val').rename(root / 'elsewhere')
    found = check(root)
    assert [f.kind for f in found] == ['file']
    assert re.search('no folder .*val; --images says where it is', found[0].message)
    main([str(root / 'annotations' / 'panoptic_val.json'), '--images', str(root / 'elsewhere')])
    with pytest.raises(FileNotFoundError, match='no panoptic annotations: '):
        main([str(root / 'elsewhere')])


def test_instances_are_checked_too(root):
    first = np.zeros((6, 8))
    first[1:5, 1:6] = 1
    again = first.copy()
    again[4, 5] = 0
    path = root / 'annotations' / 'instances_val.json'
    path.write_text(json.dumps(instances(CATEGORIES[:2], first, again)))
    found = check(root)
    assert [(f.kind, f.is_error) for f in found] == [('overlap', False)]
    assert 'two instances of one class at' in found[0].message
    assert 'an IoU of 0.95' in found[0].message

    def damage(content):
        content['annotations'][0]['segmentation']['counts'] = '0'
        content['categories'][0]['name'] = 'cow'
        content['images'][1]['height'] = 7

    edit(root, damage, 'instances_val')
    messages = ' '.join(f.message for f in check(root) if f.is_error)
    assert 'annotation 0: the runs of the mask do not fill' in messages
    assert 'category 4 is "cow" here, "cat" there' in messages
    assert 'its height and width are (7, 8) here' in messages


def test_panoptic_annotations_with_the_categories_of_instances(root, capsys):
    content = json.loads((root / 'annotations' / 'panoptic_val.json').read_text())
    content['categories'][0]['isthing'] = []
    del content['categories'][1]['isthing']
    for name in ('val', 'train'):
        (root / 'annotations' / f'panoptic_{name}.json').write_text(json.dumps(content))
        of_things = json.dumps(instances(CATEGORIES[:2], np.ones((6, 8))))
        (root / 'annotations' / f'instances_{name}.json').write_text(of_things)
    with pytest.raises(SystemExit, match='2 errors'):
        main([str(root), '--fix', str(root / 'mended')])
    assert '"isthing" must be 1 for a thing or 0 for stuff (panoptic' in capsys.readouterr().out


def test_data_without_a_thing(root):
    def damage(content):
        for annotation in content['annotations']:
            del annotation['segments_info'][1:]

    edit(root, damage)
    assert {f.kind for f in check(root)} == {'unlisted', 'no thing', 'unused class'}
    path = root / 'annotations' / 'instances_val.json'
    path.write_text(json.dumps(instances(CATEGORIES[:2], np.zeros((6, 8)))))
    assert any('left out without a pixel: 1 instance;' in f.message for f in check(root))


def test_parts_with_other_classes(root, capsys):
    content = json.loads((root / 'annotations' / 'panoptic_val.json').read_text())
    content['categories'][0]['name'] = 'cow'
    (root / 'annotations' / 'panoptic_train.json').write_text(json.dumps(content))
    for folder in ('annotations/panoptic_{}', '{}'):
        (root / folder.format('train')).symlink_to(root / folder.format('val'))
    with pytest.raises(SystemExit):
        main([str(root)])
    assert 'its categories are not those of' in capsys.readouterr().out
    with pytest.raises(ValueError, match='--images is of one data set, but there are several'):
        main([str(root), '--images', str(root)])


def test_fix_mends_what_is_certain_in_a_new_file(root, capsys):
    before = (root / 'annotations' / 'panoptic_val.json').read_text()
    sound = json.loads(before)

    def damage(content):
        segment(content).update(area=1, bbox=[0, 0, 1, 1])
        segment(content, 1, 1).pop('area')
        segment(content, 1, 1).pop('iscrowd')
        content['images'][0].update(height=600, width=800)
        content['images'].append(content['images'][1])
        content['annotations'][1]['segments_info'].append(segment(content, 1, 2))

    edit(root, damage)
    damaged = (root / 'annotations' / 'panoptic_val.json').read_text()
    main([str(root), '--fix', str(root / 'mended')])
    printed = capsys.readouterr().out
    assert 'mended 1 repeated images, ' in printed
    assert printed.endswith('nothing is wrong\n')
    mended = json.loads((root / 'mended' / 'panoptic_val.json').read_text())
    assert mended == sound
    assert (root / 'annotations' / 'panoptic_val.json').read_text() == damaged
    with pytest.raises(FileExistsError, match='a mended file is always a new one'):
        main([str(root), '--fix', str(root / 'mended')])


def test_fix_leaves_what_it_would_have_to_guess(root, capsys):
    edit(root, lambda content: segment(content).update(category_id=3))
    edit(root, lambda content: segment(content, 0, 1).update(id=[7]))
    cv2.imwrite(str(root / 'val' / 'b.jpg'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(SystemExit, match='3 errors'):
        main([str(root), '--fix', str(root / 'mended')])
    assert 'mended nothing' in capsys.readouterr().out


def test_things_against_anchors(root, tmp_path, capsys):
    """Anchors of one scale and ratio per level, images enlarged twofold: hand-worked IoUs."""
    cfg = tmp_path / 'cfg.py'
    cfg.write_text(
        """
model = dict(
    rpn_head=dict(
        anchor_generator=dict(
            type='AnchorGenerator', scales=[1], ratios=[1.0], strides=[4, 8]
        )
    ),
    train_cfg=dict(rpn=dict(assigner=dict(neg_iou_thr=THRESHOLD))),
)
pipeline = [dict(type='Resize', scale=(16, 12), keep_ratio=True)]
test_dataloader = dict(dataset=dict(pipeline=pipeline))
data_set = dict(
    type='CocoPanopticDataset',
    ann_file='x.json',
    data_prefix=dict(img=''),
    metainfo=dict(classes=('cat', 'dog', 'sky')),
)
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=data_set))
"""
    )
    # The cat is 6x6: 36 / 64 = 0.56 of the anchor of 8x8. The dog is 4x6: 16 / 24 = 0.67 of 4x4.
    text = cfg.read_text()
    cfg.write_text(text.replace('THRESHOLD', '0.5'))
    main([str(root), '--config', str(cfg)])
    assert 'without a matching anchor: 0 of 4 things' in capsys.readouterr().out
    cfg.write_text(text.replace('THRESHOLD', '0.6').replace("'cat', 'dog'", "'dog', 'cat'"))
    main([str(root), '--config', str(cfg)])
    printed = capsys.readouterr().out
    assert 'warning, anchors: 1\n' in printed
    assert 'without a matching anchor: 2 of 4 things (0 smaller than all); ' in printed
    assert 'anchors have 4 to 8' in printed
    cfg.write_text(text.replace("'cat'", "'cow'").replace('THRESHOLD', '0.5'))
    with pytest.raises(SystemExit, match='1 error,'):
        main([str(root), '--config', str(cfg)])
    assert "missing: ['cow'], unknown: ['cat']" in capsys.readouterr().out
    text = text.replace("metainfo=dict(classes=('cat', 'dog', 'sky')),", '')
    cfg.write_text(text.replace('THRESHOLD', '0.5'))
    with pytest.raises(SystemExit, match='1 error,'):
        main([str(root), '--config', str(cfg)])
    assert 'must be the 133 classes of the data set' in capsys.readouterr().out
    cfg.write_text(cfg.read_text().replace('rpn_head=', 'query_head='))
    with pytest.raises(SystemExit, match='1 error,'):
        main([str(root), '--config', str(cfg)])
    printed = capsys.readouterr().out
    assert 'must be the 133 classes of the data set' in printed
    assert 'not compared with anchors: model.rpn_head.anchor_generator is not in' in printed
    text += 'classes_from_annotations = True'
    cfg.write_text(text.replace('THRESHOLD', '0.5'))
    main([str(root), '--config', str(cfg)])
    text = 'from mmdet.datasets.transforms import Resize\n' + text.replace("'Resize'", 'Resize')
    cfg.write_text(text.replace('THRESHOLD', '0.5'))
    capsys.readouterr()
    main([str(root), '--config', str(cfg)])
    assert 'without a matching anchor: 0 of 4 things' in capsys.readouterr().out


def test_a_config_without_data(root, tmp_path):
    (tmp_path / 'model.py').write_text('model = dict()')
    with pytest.raises(ValueError, match=r'model\.py: its data loaders have no data set'):
        main([str(root), '--config', str(tmp_path / 'model.py')])


@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason="needs a sample of COCO's val2017")
def test_a_real_image_of_coco_is_sound(capsys):
    main([str(COCO_SAMPLE)])
    printed = capsys.readouterr().out
    assert 'error' not in printed
    assert '1 image, 1 with a readable map; 18 segments, 1 of crowds' in printed


def test_images_in_a_folder_of_another_part_are_used(root):
    (root / 'c.jpg').touch()
    pngs = root / 'annotations'
    whole = Split(pngs / 'panoptic_whole.json', pngs / 'panoptic_whole', root)
    found, _ = check_split(Split.of(pngs / 'panoptic_val.json'), Findings(), lambda x, **_: x)
    other = SimpleNamespace(images={0: dict(file_name='c.jpg')}, annotations={})
    findings = Findings()
    check_unused_files({whole: other, Split.of(pngs / 'panoptic_val.json'): found}, findings)
    assert not findings.found
    check_unused_files({whole: other}, findings)
    assert 'the first is annotations/panoptic_val/a.png' in findings.found[0].message
