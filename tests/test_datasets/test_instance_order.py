"""Who is in front, from overlapping masks and a panoptic PNG, up to the packed sample."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS
from panopticapi.utils import id2rgb

from . import test_instance_masks
from .test_instance_masks import (
    CROWD,
    HEIGHT,
    PERSON,
    WIDTH,
    box,
    build,
    instances,
    polygon,
    region,
    write,
)
from .test_panoptic_copy_paste import make, paste

root = test_instance_masks.root
LOAD = [dict(type='LoadImageFromFile'), dict(type='mmbanet.LoadPanopticAnnotations')]
ORDER = dict(type='mmbanet.LoadInstanceOrder')
PACK = dict(type='mmbanet.PackOrderedInputs')
FLIP = dict(type='RandomFlip', prob=1.0)
RESIZE = dict(type='Resize', scale=(80, 60))


def order_of(root, *steps, image=0, **overrides):
    return build(root, pipeline=[*LOAD, *steps, PACK], **overrides)[image]['data_samples']


def write_png(root, *painted):
    """Segments by their ids over sky, later ones over earlier ones."""
    ids = np.full((HEIGHT, WIDTH), 5)
    for number, place in painted:
        ids[region(*place)] = number
    cv2.imwrite(str(root / 'seg' / '7.png'), id2rgb(ids)[..., ::-1])


@pytest.mark.parametrize('steps', [[], [FLIP], [RESIZE, FLIP]])
def test_the_tie_is_in_front_of_the_person(root, steps):
    sample = order_of(root, ORDER, *steps)
    assert sample.gt_instances.labels.tolist() == [1, 0]
    assert sample.gt_instances.order.tolist() == [[0, 1], [-1, 0]]
    assert len(sample.ignored_instances) == 1


def test_the_person_is_in_front_of_the_tie(root):
    """Of the tie a row above the person is seen."""
    tie = (1, 13, 12, 16)
    data = instances()
    data['annotations'][0].update(segmentation=polygon(*tie), bbox=box(*tie))
    write(root, instances=data)
    write_png(root, (70000, CROWD), (20, tie), (300, PERSON))
    assert order_of(root, ORDER).gt_instances.order.tolist() == [[0, -1], [1, 0]]


def test_too_little_overlap(root):
    """2 of the tie's 12 rows lie on the person."""
    tie = (26, 30, 12, 16)
    data = instances()
    data['annotations'][0].update(segmentation=polygon(*tie), bbox=box(*tie))
    write(root, instances=data)
    write_png(root, (70000, CROWD), (300, PERSON), (20, tie))
    assert order_of(root, dict(ORDER, overlap_thr=0.4)).gt_instances.order.any()
    assert not order_of(root, dict(ORDER, overlap_thr=0.5)).gt_instances.order.any()


def test_crowds_have_no_order(root):
    """Nor do they take the place of an instance: here the first one."""
    data = instances()
    data['annotations'] = [data['annotations'][k] for k in (2, 0, 1)]
    write(root, instances=data)
    results = build(root, pipeline=[*LOAD, ORDER])[0]
    assert results['gt_order'].tolist() == [[0, 0, 0], [0, 0, 1], [0, -1, 0]]
    assert order_of(root, ORDER).gt_instances.order.tolist() == [[0, 1], [-1, 0]]


def test_images_without_instances_or_annotation(root):
    assert order_of(root, ORDER, image=1).gt_instances.order.shape == (0, 0)
    results = build(root, pipeline=LOAD)[0]
    results['seg_map_path'] = None
    assert not TRANSFORMS.build(ORDER)(results)['gt_order'].any()


def test_masks_of_the_png_have_no_order(root):
    sample = order_of(root, ORDER, instances_ann_file=None)
    assert not sample.gt_instances.order.any()


@pytest.mark.parametrize(
    ('steps', 'message'),
    [
        ([], r'gt_order must be \(3, 3\).* got None: LoadInstanceOrder'),
        ([RESIZE, ORDER], 'put LoadInstanceOrder before Resize'),
        (
            [ORDER, dict(type='FilterAnnotations', min_gt_bbox_wh=(5, 5), by_mask=True)],
            r'gt_order must be \(2, 2\).* got \(3, 3\).*must not follow',
        ),
        ([dict(ORDER, overlap_thr=1.5)], 'overlap_thr must be a share in 0..1, got 1.5'),
    ],
)
def test_pipelines_that_cannot_work(root, steps, message):
    with pytest.raises(ValueError, match=message):
        order_of(root, *steps)


def test_without_annotations(root):
    with pytest.raises(ValueError, match=r'needs gt_masks, .*behind LoadPanopticAnnotations'):
        build(root, pipeline=[LOAD[0], ORDER])[0]


def test_known_order_is_packed():
    """That of copied things, without the crowd."""
    target, source = make([(0, (10, 10, 40, 50))] * 2, 50), make([(2, (25, 20, 55, 40))], 200)
    target['gt_ignore_flags'][0] = True
    results = paste(target, source)
    assert results['gt_order'].tolist() == [[0, 0, -1], [0, 0, -1], [1, 1, 0]]
    packed = TRANSFORMS.build(dict(PACK, meta_keys=()))(results)['data_samples']
    assert packed.gt_instances.order.tolist() == [[0, -1], [1, 0]]
    assert packed.gt_instances.order.dtype == torch.int8
