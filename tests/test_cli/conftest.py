"""A small data set, and predictions of it, that several commands are tested with."""

import json
from pathlib import Path

import numpy as np
import pytest
from panopticapi.utils import id2rgb, rgb2id
from PIL import Image

from mmbanet.scenes import generate_scenes


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=0, val=4, size=96)


@pytest.fixture(scope='module')
def truth(scenes) -> dict:
    return json.loads((scenes / 'annotations' / 'panoptic_val.json').read_text())


@pytest.fixture(scope='module')
def predictions(scenes, truth, tmp_path_factory) -> Path:
    """As ``mmbanet predict`` writes them: right, a class wrong, one missed and one false, empty."""
    folder = tmp_path_factory.mktemp('predicted')
    (folder / 'segments').mkdir()
    (folder / 'panoptic').mkdir()
    categories = truth['categories']
    label_of = {category['id']: label for label, category in enumerate(categories)}
    content = dict(truth, annotations=[])
    content['categories'] = [dict(c, id=label) for label, c in enumerate(categories)]
    for place, annotation in enumerate(truth['annotations']):
        name = Path(annotation['file_name']).stem
        png = scenes / 'annotations' / 'panoptic_val' / annotation['file_name']
        ids = rgb2id(np.asarray(Image.open(png)))
        segments = [
            dict(id=s['id'], category=label_of[s['category_id']], score=None)
            for s in annotation['segments_info']
        ]
        for s in segments:
            s['is_thing'] = bool(categories[s['category']]['isthing'])
        things = [s for s in segments if s['is_thing']]
        assert things
        for s in things:
            s.update(score=0.5, overlaps=[])
        if place == 1:
            things[0]['category'] = 1 - things[0]['category'] if things[0]['category'] < 2 else 0
        if place == 2:
            ids[ids == things[0]['id']] = 0
            segments.remove(things[0])
            stuff = next(s for s in segments if not s['is_thing'])
            region = np.argwhere(ids == stuff['id'])[:30]
            ids[tuple(region.T)] = 77
            overlap = dict(segment=stuff['id'], in_front=True, rule='MeanColor', set_aside=False)
            behind = dict(segment=77, in_front=False, rule='score', set_aside=False)
            gone = dict(segment=None, in_front=True, rule='score', set_aside=False)
            false = dict(id=77, category=0, score=0.75, is_thing=True, overlaps=[overlap, gone])
            stuff['overlaps'] = [behind]
            segments.append(false)
        if place == 3:
            ids[:] = 0
            segments = []
        Image.fromarray(id2rgb(ids)).save(folder / 'panoptic' / annotation['file_name'])
        image = next(i for i in truth['images'] if i['id'] == annotation['image_id'])
        file = scenes / 'val' / image['file_name']
        record = dict(file=str(file), height=96, width=96, segments=segments)
        (folder / 'segments' / f'{name}.json').write_text(json.dumps(record))
        infos = [dict(id=s['id'], category_id=s['category'], iscrowd=0) for s in segments]
        for info in infos:
            info['area'] = int((ids == info['id']).sum())
        content['annotations'].append(dict(annotation, segments_info=infos))
    (folder / 'panoptic.json').write_text(json.dumps(content))
    return folder
