"""Instance masks of the generated scenes that include the small things on top."""

import json

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import LoadPanopticAnnotations
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.datasets import IncludeThingsOnTop, ScenesDataset
from mmbanet.datasets.scenes import SMALL_THINGS, generate_scenes

IMAGES = 24


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=IMAGES, val=0, size=64)


@pytest.fixture(scope='module')
def dataset(root):
    return ScenesDataset(
        ann_file=str(root / 'annotations' / 'panoptic_train.json'),
        data_prefix=dict(img=str(root / 'train'), seg=str(root / 'annotations' / 'panoptic_train')),
        filter_cfg=None,
        pipeline=[],
    )


def load(dataset, index: int) -> dict:
    results = dataset.get_data_info(index)
    for step in (LoadImageFromFile(), LoadPanopticAnnotations()):
        results = step(results)
    return results


def expected_masks(root, dataset, index: int) -> list[np.ndarray]:
    """Pixel by pixel from the files: a thing's own, and those of small things that hide it."""
    content = json.loads((root / 'annotations' / 'panoptic_train.json').read_text())
    name_of = {category['id']: category['name'] for category in content['categories']}
    things = {category['id'] for category in content['categories'] if category['isthing']}
    annotation = content['annotations'][index]
    folder = root / 'annotations' / 'panoptic_train'
    owner = rgb2id(np.array(Image.open(folder / annotation['file_name'])))
    by_id = {part['id']: part for part in annotation['segments_info']}
    masks = []
    for part in annotation['segments_info']:
        if part['category_id'] not in things:
            continue
        full = coco_mask.decode(part['amodal_rle'])
        mask = np.zeros(owner.shape, np.uint8)
        for y, x in np.ndindex(*owner.shape):
            seen = by_id[owner[y, x]]
            small = name_of[seen['category_id']] in SMALL_THINGS
            mask[y, x] = seen is part or (full[y, x] and small)
        masks.append(mask)
    return masks


def test_masks_include_the_small_things_in_front_and_nothing_else(root, dataset):
    grown = 0
    for index in range(IMAGES):
        before = load(dataset, index)
        after = IncludeThingsOnTop()(load(dataset, index))
        assert len(after['gt_masks']) == len(before['gt_masks']) == len(after['gt_bboxes'])
        for visible, mask, box, expected in zip(
            before['gt_masks'].masks,
            after['gt_masks'].masks,
            after['gt_bboxes'].tensor.numpy(),
            expected_masks(root, dataset, index),
        ):
            assert (mask == expected).all()
            ys, xs = np.nonzero(mask)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            grown += (mask != visible).any()
        assert (after['gt_seg_map'] == before['gt_seg_map']).all()
    assert grown > IMAGES / 4


def test_full_masks_are_those_of_the_image_although_ids_repeat(dataset):
    parts = [dataset.get_data_info(index)['segments_info'] for index in range(IMAGES)]
    ids = [part['id'] for segments in parts for part in segments]
    assert len(set(ids)) < len(ids)
    for index, segments in enumerate(parts):
        visible = rgb2id(np.array(Image.open(dataset.get_data_info(index)['seg_map_path'])))
        for part in segments:
            full = coco_mask.decode(part['amodal_rle'])
            assert full[visible == part['id']].mean() > 0.99


def test_an_image_without_things(dataset):
    results = load(dataset, 0)
    results['segments_info'] = [part for part in results['segments_info'] if not part['is_thing']]
    results['gt_masks'] = results['gt_masks'][[]]
    results['gt_bboxes'] = results['gt_bboxes'][[]]
    after = IncludeThingsOnTop()(results)
    assert len(after['gt_masks']) == len(after['gt_bboxes']) == 0


def test_annotations_without_full_masks(dataset):
    results = load(dataset, 0)
    for segment in results['segments_info']:
        segment['amodal_rle'] = None
    with pytest.raises(ValueError, match='its annotations have no amodal_rle'):
        IncludeThingsOnTop()(results)
