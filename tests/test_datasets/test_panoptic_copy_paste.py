"""Copy-paste of panoptic data: image, semantics, masks, boxes and order agree afterwards."""

import copy

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DATASETS

from mmbanet.datasets import PanopticCopyPaste
from mmbanet.scenes import METAINFO, generate_scenes


def make(things: list[tuple[int, tuple[int, int, int, int]]], color: int, size=(60, 80)) -> dict:
    """An image of rectangles (label, (x1, y1, x2, y2)), front to back, on stuff of label 5."""
    masks = np.zeros((len(things), *size), np.uint8)
    seg_map = np.full(size, 5, np.uint8)
    for i, (label, (x1, y1, x2, y2)) in reversed(list(enumerate(things))):
        masks[i, y1:y2, x1:x2] = 1
        seg_map[y1:y2, x1:x2] = label
    masks = BitmapMasks(masks, *size)
    return dict(
        img=np.full((*size, 3), color, np.uint8),
        gt_masks=masks,
        gt_bboxes=masks.get_bboxes(HorizontalBoxes),
        gt_bboxes_labels=np.array([label for label, _ in things], np.int64),
        gt_ignore_flags=np.zeros(len(things), bool),
        gt_seg_map=seg_map,
    )


def paste(target: dict, source: dict, **options) -> dict:
    transform = PanopticCopyPaste(**{'min_visible_pixels': 20, **options})
    return transform(copy.deepcopy(target) | {'mix_results': [copy.deepcopy(source)]})


TARGET = make([(0, (10, 10, 40, 50)), (1, (60, 10, 75, 50))], 50)
SOURCE = make([(2, (25, 20, 55, 40))], 200)


def test_everything_agrees():
    result = paste(TARGET, SOURCE)
    inside = np.zeros((60, 80), bool)
    inside[20:40, 25:55] = True
    assert result['gt_bboxes_labels'].tolist() == [0, 1, 2]
    assert (result['gt_masks'].masks[:2] == TARGET['gt_masks'].masks).all()
    assert (result['gt_masks'].masks[2] == inside).all()
    assert (result['gt_seg_map'] == np.where(inside, 2, TARGET['gt_seg_map'])).all()
    assert result['gt_bboxes'].tensor.tolist() == [
        [10, 10, 40, 50],
        [60, 10, 75, 50],
        [25, 20, 55, 40],
    ]
    assert result['gt_order'].tolist() == [[0, 0, -1], [0, 0, 0], [1, 0, 0]]
    assert result['gt_ignore_flags'].tolist() == [False] * 3
    core, away = np.zeros_like(inside), ~inside
    core[23:37, 28:52] = True
    away[17:43, 22:58] = False
    assert (result['img'][core] == 200).all()
    assert (result['img'][away] == 50).all()
    # The edge is in between somewhere, and leaves neither range.
    assert ((result['img'] > 50) & (result['img'] < 200)).any()


def test_masks_can_be_cut():
    result = paste(TARGET, SOURCE, overlap=False)
    left = TARGET['gt_masks'].masks[0].astype(bool)
    left[20:40, 25:55] = False
    assert (result['gt_masks'].masks[0] == left).all()
    assert result['gt_bboxes'].tensor[0].tolist() == [10, 10, 40, 50]
    assert result['gt_order'][2].tolist() == [1, 0, 0]


def test_what_is_hidden_is_no_instance_any_more():
    source = make([(2, (8, 8, 42, 48))], 200)
    result = paste(TARGET, source)
    assert result['gt_bboxes_labels'].tolist() == [1, 2]
    assert (result['gt_seg_map'][48:50, 10:40] == 0).all()
    assert result['gt_order'].tolist() == [[0, 0], [0, 0]]
    crowd = TARGET | {'gt_ignore_flags': np.array([True, False])}
    assert paste(crowd, source)['gt_bboxes_labels'].tolist() == [0, 1, 2]


def test_what_has_too_few_pixels_is_neither_pasted_nor_kept():
    small = make([(2, (25, 20, 30, 25))], 200)
    assert paste(TARGET, small, min_visible_pixels=25)['gt_bboxes_labels'].tolist() == [0, 1, 2]
    assert paste(TARGET, small, min_visible_pixels=26)['gt_bboxes_labels'].tolist() == [0, 1]
    # It leaves 60 pixels of the first thing, a twentieth.
    source = make([(2, (8, 8, 42, 48))], 200)
    for pixels, kept in ((60, [0, 1, 2]), (61, [1, 2])):
        result = paste(TARGET, source, min_visible_pixels=pixels, min_visible_share=0.05)
        assert result['gt_bboxes_labels'].tolist() == kept


def test_known_order_stays_and_tells_what_of_a_thing_can_be_pasted():
    target = make([(0, (10, 10, 30, 30)), (0, (20, 10, 45, 30))], 50)
    target['gt_order'] = np.array([[0, 1], [-1, 0]], np.int8)
    # Both of one class: the semantic map cannot tell whose the overlap is.
    source = make([(2, (30, 35, 50, 55)), (2, (40, 35, 60, 55))], 200)
    source['gt_order'] = np.array([[0, 1], [-1, 0]], np.int8)
    np.random.seed(1)
    result = next(r for r in (paste(target, source) for _ in range(50)) if len(r['gt_masks']) == 4)
    assert result['gt_order'].tolist() == [
        [0, 1, 0, 0],
        [-1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, -1, 0],
    ]
    behind = np.zeros((60, 80), np.uint8)
    behind[35:55, 50:60] = 1
    assert (result['gt_masks'].masks[3] == behind).all()
    del source['gt_order'], target['gt_order']
    assert not paste(target, source)['gt_order'].any()


def test_only_what_is_seen_of_a_thing_is_pasted():
    # A tie of class 3 lies on the figure of class 2, whose mask holds it, as in COCO.
    source = make([(3, (35, 25, 40, 30)), (2, (25, 20, 55, 40))], 200)
    source['gt_ignore_flags'][0] = True
    result = paste(TARGET, source)
    assert result['gt_bboxes_labels'].tolist() == [0, 1, 2]
    hole = result['gt_masks'].masks[2][25:30, 35:40]
    assert not hole.any()
    assert (result['gt_seg_map'][25:30, 35:40] == TARGET['gt_seg_map'][25:30, 35:40]).all()


@pytest.mark.parametrize('size', [(40, 100), (90, 50)])
def test_images_of_other_sizes_are_cut(size):
    source = make([(2, (25, 20, 48, 39))], 200, size)
    result = paste(TARGET, source)
    assert result['img'].shape == (60, 80, 3)
    assert result['gt_masks'].masks[2].sum() == 23 * 19
    beyond = make([(2, (85, 20, 98, 39))], 200, (40, 100))
    assert paste(TARGET, beyond)['gt_bboxes_labels'].tolist() == [0, 1]


def test_nothing_to_paste_or_nothing_there():
    nothing = make([], 10)
    same = paste(TARGET, nothing)
    for key in ('img', 'gt_seg_map', 'gt_bboxes_labels'):
        assert (same[key] == TARGET[key]).all()
    assert same['gt_order'].tolist() == [[0, 0], [0, 0]]
    alone = paste(nothing, SOURCE)
    assert alone['gt_bboxes_labels'].tolist() == [2]
    assert alone['gt_bboxes'].tensor.tolist() == [[25, 20, 55, 40]]


def test_errors():
    for setting in (dict(max_num_pasted=0), dict(min_visible_pixels=0), dict(min_visible_share=2)):
        with pytest.raises(ValueError, match=next(iter(setting))):
            PanopticCopyPaste(**setting)
    with pytest.raises(ValueError, match='MultiImageMixDataset'):
        PanopticCopyPaste()(copy.deepcopy(TARGET))
    bare = {key: value for key, value in SOURCE.items() if key != 'gt_seg_map'}
    with pytest.raises(ValueError, match='needs gt_seg_map'):
        paste(TARGET, bare)


def test_in_a_pipeline_of_mmdet(tmp_path):
    root = generate_scenes(tmp_path / 'scenes', train=6, val=0, seed=1, workers=1)
    dataset = DATASETS.build(
        dict(
            type='mmdet.MultiImageMixDataset',
            dataset=dict(
                type='mmbanet.PanopticDataset',
                data_root=str(root),
                ann_file='annotations/panoptic_train.json',
                data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
                metainfo=METAINFO,
                pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadPanopticAnnotations')],
            ),
            pipeline=[
                dict(type='mmbanet.PanopticCopyPaste', min_visible_pixels=16),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackDetInputs'),
            ],
        )
    )
    before = sum(len(item['gt_masks']) for item in dataset.dataset)
    samples = [item['data_samples'] for item in dataset]
    instances = [sample.gt_instances for sample in samples]
    assert sum(len(found) for found in instances) > before
    for sample, found in zip(samples, instances):
        masks, sem_seg = found.masks.masks.astype(bool), sample.gt_sem_seg.sem_seg[0].numpy()
        assert len(masks) == len(found.labels) == len(found.bboxes)
        overlapping = masks.sum(axis=0) > 1
        for mask, label in zip(masks, found.labels.tolist()):
            assert (sem_seg[mask & ~overlapping] == label).all()
