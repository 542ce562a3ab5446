"""The report of how much masks overlap, counted pixel by pixel."""

import json
import runpy
import sys
from itertools import combinations
from pathlib import Path

import pytest
from pycocotools import mask as coco_mask

from mmbanet.datasets.mask_overlap import measure_overlap
from mmbanet.scenes import generate_scenes

from ..conftest import COCO_SAMPLE, ROOT


@pytest.fixture(scope='module')
def annotations(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'scenes'
    return generate_scenes(root, train=12, val=1, size=64, seed=2, workers=1) / 'annotations'


def counts(path: Path) -> dict[str, int]:
    """Pairs by the files' pixels."""
    content = json.loads(path.read_text())
    result = dict(images=len(content['images']), instances=len(content['annotations']))
    result |= dict(box_pairs=0, mask_pairs=0, occluded_pairs=0, occluded_images=0)
    for image in content['images']:
        mine = [a for a in content['annotations'] if a['image_id'] == image['id']]
        occluded = 0
        for one, other in combinations(mine, 2):
            (ax, ay, aw, ah), (bx, by, bw, bh) = one['bbox'], other['bbox']
            result['box_pairs'] += ax < bx + bw and bx < ax + aw and ay < by + bh and by < ay + ah
            a, b = (coco_mask.decode(part['segmentation']) for part in (one, other))
            common = int((a & b).sum())
            result['mask_pairs'] += common > 0
            occluded += 5 * common > min(a.sum(), b.sum())
        result['occluded_pairs'] += occluded
        result['occluded_images'] += occluded > 0
    return result


def test_counts_are_those_of_the_pixels(annotations):
    path = annotations / 'instances_train.json'
    found = vars(measure_overlap(str(path)))
    assert found == counts(path)
    assert 0 < found['occluded_pairs'] < found['mask_pairs'] < found['box_pairs']


def test_panoptic_masks_never_overlap(annotations):
    found = measure_overlap(
        str(annotations / 'panoptic_train.json'), str(annotations / 'panoptic_train')
    )
    of_instances = measure_overlap(str(annotations / 'instances_train.json'))
    assert (found.images, found.instances) == (of_instances.images, of_instances.instances)
    assert found.box_pairs > 0 == found.mask_pairs == found.occluded_pairs


def rectangle(image_id: int, x: int, width: int, crowd: int = 0) -> dict:
    corners = [[x, 0, x + width, 0, x + width, 10, x, 10]]
    return dict(image_id=image_id, category_id=1, segmentation=corners, iscrowd=crowd)


def test_exactly_a_fifth_is_no_occlusion_and_crowds_do_not_count(tmp_path):
    items = [
        *(rectangle(1, 0, 10), rectangle(1, 8, 30)),  # 20 of 100 pixels
        *(rectangle(2, 0, 10), rectangle(2, 7, 30)),  # 30 of 100
        *(rectangle(3, 0, 10), rectangle(3, 0, 10, crowd=1)),
        *(rectangle(4, 0, 10), rectangle(4, 10, 10)),  # side by side
    ]
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg', height=12, width=40) for i in range(1, 6)],
        annotations=[dict(item, id=i) for i, item in enumerate(items)],
        categories=[dict(id=1, name='box')],
    )
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(content))
    assert vars(measure_overlap(str(path))) == dict(
        images=5, instances=7, box_pairs=2, mask_pairs=2, occluded_pairs=1, occluded_images=1
    )


def run(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, 'argv', ['mask_overlap.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / 'mask_overlap.py'), None, '__main__')


def test_command_line(annotations, monkeypatch, capsys):
    run(monkeypatch, annotations / 'instances_train.json')
    output = capsys.readouterr().out
    expected = counts(annotations / 'instances_train.json')
    assert f'12 images, {expected["instances"]} instances' in output
    pairs = expected['occluded_pairs']
    (line,) = (line for line in output.splitlines() if line.startswith('by more than 20%'))
    assert line.split()[-2:] == [str(pairs), f'{pairs / 12:.2f}']


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        (['nowhere.json'], 'not found: .*nowhere.json'),
        (['panoptic_train.json'], 'panoptic_train.json: .*segments_info'),
        (['instances_train.json', '--seg-prefix', 'panoptic_train'], 'instances_train.json: .*'),
        (['panoptic_train.json', '--seg-prefix', 'nowhere'], 'not found: .*nowhere'),
    ],
)
def test_errors_are_one_line(annotations, monkeypatch, arguments, problem):
    paths = [a if a.startswith('--') else annotations / a for a in arguments]
    # Without DOTALL: of one line.
    with pytest.raises(SystemExit, match=rf'^mask_overlap\.py: .*{problem}.*\Z'):
        run(monkeypatch, *paths)


@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason='needs the COCO sample')
def test_real_image(monkeypatch, capsys):
    folder = COCO_SAMPLE / 'annotations'
    run(monkeypatch, folder / 'panoptic_val2017.json', '--seg-prefix', folder / 'panoptic_val2017')
    content = json.loads((folder / 'panoptic_val2017.json').read_text())
    things = {c['id'] for c in content['categories'] if c['isthing']}
    (annotation,) = content['annotations']
    count = sum(
        s['category_id'] in things and not s['iscrowd'] for s in annotation['segments_info']
    )
    assert f'1 image, {count} instances' in capsys.readouterr().out
