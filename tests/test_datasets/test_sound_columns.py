"""What is found sound by columns is what the readers find when they look at each annotation."""

import json

import numpy as np
import pytest

from mmbanet.datasets import instance_annotations, panoptic_annotations
from mmbanet.datasets.instance_annotations import InstanceAnnotations
from mmbanet.datasets.panoptic_annotations import PanopticAnnotations
from mmbanet.datasets.segmentation import pack_polygons
from mmbanet.datasets.sound_columns import are_sound_segments, find_sound_instances

IMAGES = {7: dict(height=12, width=16), 'a': dict(height=12, width=16)}
SQUARE = [2, 2.5, 6, 2, 6, 6, 2, 6]
RLE = dict(size=[12, 16], counts=[0, 96, 96])
INSTANCE_VALUES = dict(
    id=[*range(20, 40), 20, True, 2**70, 1.0, '1', None],
    image_id=[7, 'a', 7, 8, True, 7.0, [7], None],
    category_id=[3, 1, 3, 2, '3', True, 3.0, None],
    iscrowd=[0, 1, 0, 2, None, 'no'],
    bbox=[
        [2, 2, 4, 4],
        [1.5, 2, 10, 9.5],
        [2, 2, 0.5, 4],
        [9, 9, 4, 4],
        [-9, 2, 4, 4],
        [20, 2, 4, 4],
        [2, 2, 4],
        [2, 2, 4, float('nan')],
        [2, 2, 4, 1e309],
        [2, 2, 4, 10**400],
        [True, 2, 4, 4],
        [2, 2, -4, 4],
        'abcd',
        None,
        [2, 2, 2**70, 4],
    ],
    segmentation=[
        [SQUARE],
        [SQUARE, [9, 9, 12, 9, 12, 11]],
        [SQUARE, [5, 5]],
        RLE,
        [],
        SQUARE,
        None,
    ]
    + [[[*SQUARE, value, 3]] for value in (float('nan'), 1e400, 10**400, True, '1', -90, 90, 30)],
)
SEGMENT_VALUES = dict(
    id=[*range(1, 30), 1, 0, 2**24, 2**70, True, 1.5, None],
    category_id=[3, 1, 3, 2, '3', True, None],
    iscrowd=[0, 1, 0, 2, None],
    area=[9, 2.5, 0, -1, float('nan'), 1e400, 10**400, 2**70, True, 'x', None],
    bbox=[[2, 2, 4, 4], [2, 2, 0.5, 4], [2, 2, 0, 4], [2, 2, 4], [2, 2, 4, 1e400], 'abcd', None],
)


def draw(rng, values: dict, number: int) -> dict:
    """An entry with a key or two that may be anything, or not be there."""
    odd = rng.choice(len(values), rng.integers(3), replace=False)
    entry = {}
    for place, (key, choices) in enumerate(values.items()):
        choice = rng.integers(len(choices)) if place in odd else number % 2
        entry[key] = choices[int(choice)]
    if 0 not in odd:
        entry['id'] = 1000 + number
    if rng.random() < 0.1:
        del entry[list(values)[int(rng.integers(len(values)))]]
    return entry


def read(reader, tmp_path, content):
    """What a reader makes of a file: its entries, or its error."""
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    try:
        found = reader(str(path))
    except ValueError as error:
        return str(error)
    return found.instances if reader is InstanceAnnotations else found.annotations


def test_instances_are_those_of_a_look_at_each(tmp_path, monkeypatch):
    rng, kept = np.random.default_rng(0), 0
    categories = [dict(id=3, name='cat', isthing=1), dict(id=1, name='dog', isthing=1)]
    images = [dict(image, id=i, file_name=f'{i}.jpg') for i, image in IMAGES.items()]
    for number in range(0, 800, 2):
        entries = [draw(rng, INSTANCE_VALUES, number + i) for i in range(2)]
        content = dict(images=images, categories=categories, annotations=entries)
        by_columns = read(InstanceAnnotations, tmp_path, content)
        with monkeypatch.context() as patch:
            patch.setattr(
                instance_annotations, 'find_sound_instances', lambda block, *_: np.zeros(len(block))
            )
            assert by_columns == read(InstanceAnnotations, tmp_path, content)
        packed = [pack_polygons(entry) for entry in json.loads(json.dumps(entries))]
        kept += find_sound_instances(packed, IMAGES, {1, 3}, 1).sum()
    assert 200 < kept < 700


def test_segments_are_those_of_a_look_at_each(tmp_path, monkeypatch):
    rng, kept = np.random.default_rng(0), 0
    categories = [dict(id=3, name='cat', isthing=1), dict(id=1, name='grass', isthing=0)]
    images = [dict(id=7, file_name='7.jpg', height=12, width=16)]
    for number in range(0, 800, 2):
        segments = [draw(rng, SEGMENT_VALUES, number + i) for i in range(2)]
        entry = dict(image_id=7, file_name='7.png', segments_info=segments)
        content = dict(images=images, categories=categories, annotations=[entry])
        by_columns = read(PanopticAnnotations, tmp_path, content)
        with monkeypatch.context() as patch:
            patch.setattr(panoptic_annotations, 'are_sound_segments', lambda *_: False)
            assert by_columns == read(PanopticAnnotations, tmp_path, content)
        kept += are_sound_segments([entry], {1, 3}, 2**24 - 1)
    assert 50 < kept < 350


@pytest.mark.parametrize('entry', [None, 7, 'text', [], {}, dict(segmentation=[[1.0] * 6])])
def test_what_is_no_annotation_is_not_sound(entry):
    assert not find_sound_instances([entry], IMAGES, {1}, 1).any()
    assert not are_sound_segments([entry], {1}, 9)
