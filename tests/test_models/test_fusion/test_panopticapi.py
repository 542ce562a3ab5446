"""With ``order=None`` the head decides as the official panopticapi does."""

from collections import Counter
from math import nextafter

import numpy as np
import pytest
import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from panopticapi.combine_semantic_and_instance_predictions import combine_to_panoptic_single_core
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.models.fusion import OcclusionAwareFusionHead

from ...conftest import DEVICES
from .scenes import crowded_scene

THINGS, STUFF = 3, 4
SMALLER = dict(type='mmbanet.SmallerInFront')
CATEGORIES = {
    label: dict(id=label, isthing=int(label < THINGS), color=(40 + 30 * label, 60, 200))
    for label in range(THINGS + STUFF)
}


def random_input(seed):
    """An image's masks (K, H, W), scores, labels and semantic labels (H, W), as numpy arrays."""
    scene, rng = crowded_scene(seed, max_objects=20), np.random.default_rng(seed)
    masks, scores = scene['masks'], scene['scores']
    # Patches of stuff, of things (void where no instance lies) and of void.
    height, width = masks.shape[1:]
    patches = rng.integers(0, THINGS + STUFF + 1, (-(-height // 4), -(-width // 5)))
    semantics = patches.repeat(4, 0).repeat(5, 1)[:height, :width]
    return masks, scores, rng.integers(0, THINGS, len(masks)), semantics


def by_panopticapi(folder, inputs, removal_thr, stuff_area_limit):
    """The segments that the official tool makes of the inputs, see :func:`segments`."""
    masks, scores, labels, semantics = inputs
    instances = [
        dict(segmentation=encoded(mask), category_id=int(label), score=float(score))
        for mask, label, score in zip(masks, labels, scores)
    ]
    stuff = [
        dict(segmentation=encoded(semantics == label), category_id=label)
        for label in range(THINGS, THINGS + STUFF)
        if (semantics == label).any()
    ]
    height, width = semantics.shape
    (annotation,) = combine_to_panoptic_single_core(
        proc_id=0,
        img_ids=[1],
        img_id2img={1: dict(file_name='1.jpg', height=height, width=width)},
        # The order in which the tool's combine_predictions hands them over.
        inst_by_image={1: sorted(instances, key=lambda instance: -instance['score'])},
        sem_by_image={1: stuff},
        segmentations_folder=folder,
        overlap_thr=removal_thr,
        stuff_area_limit=stuff_area_limit,
        categories=CATEGORIES,
    )
    ids = rgb2id(np.array(Image.open(folder / annotation['file_name'])))
    return segments(ids, [(s['id'], s['category_id']) for s in annotation['segments_info']])


def encoded(mask):
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def by_head(inputs, removal_thr, stuff_area_limit, device='cpu', head=None):
    """The segments that the head, in heuristic mode if not given, makes of the inputs."""
    head = head or make_head(None, removal_thr, stuff_area_limit)
    (result,) = head.predict(*head_inputs(inputs, device))
    ids = result.segment_ids[0].cpu().numpy()
    return segments(ids, [(s['id'], s['category']) for s in result.segments_info])


def make_head(order, removal_thr, stuff_area_limit):
    cfg = dict(
        score_thr=0.0,
        nms=None,
        occlusion_thr=0.2,
        removal_thr=removal_thr,
        stuff_area_limit=stuff_area_limit,
    )
    return OcclusionAwareFusionHead(THINGS, STUFF, order=order, test_cfg=cfg)


def head_inputs(inputs, device='cpu'):
    masks, scores, labels, semantics = (torch.from_numpy(value).to(device) for value in inputs)
    boxes = torch.zeros(len(masks), 4, device=device)
    instances = InstanceData(bboxes=boxes, masks=masks, scores=scores, labels=labels)
    return [instances], [semantics]


def segments(ids, categories):
    """{(category, pixels)} of all segments that have any; ids themselves may differ."""
    assert set(np.unique(ids)) <= {0, *(number for number, _ in categories)}
    found = [(category, (ids == number).tobytes()) for number, category in categories]
    return {(category, pixels) for category, pixels in found if any(pixels)}


def settings(seed):
    return dict(
        # Shares of small areas are often exactly these, but for the fourth and the last.
        removal_thr=[0.5, 0.5, 0.2, 0.33333, 0.75, 0.0, 1.0, 0.66666][seed % 8],
        stuff_area_limit=[1, 4, 8, 16, 32][seed % 5],
    )


@pytest.mark.parametrize('device', DEVICES)
def test_equals_panopticapi(tmp_path, device):
    total, disagreements = Counter(), Counter()
    for seed in range(100):
        inputs, cfg = random_input(seed), settings(seed)
        expected = by_panopticapi(tmp_path, inputs, **cfg)
        assert by_head(inputs, **cfg, device=device) == expected, seed

        masks, _, _, semantics = inputs
        things = sum(category < THINGS for category, _ in expected)
        stuff = sum(np.any(semantics == label) for label in range(THINGS, THINGS + STUFF))
        total.update(
            things=things,
            stuff=len(expected) - things,
            without_pixels=int(masks.any((1, 2)).sum()) - things,
            stuff_without_pixels=stuff - (len(expected) - things),
            empty_masks=int((~masks.any((1, 2))).sum()),
            no_instances=len(masks) == 0,
        )
        # Rules that are almost the same are told from it.
        limit, at_least = cfg['stuff_area_limit'], nextafter(cfg['removal_thr'], 0)
        disagreements.update(
            at_least=by_head(inputs, at_least, limit) != expected,
            limit=by_head(inputs, cfg['removal_thr'], limit + 1) != expected,
            smaller=by_head(inputs, **cfg, head=make_head(SMALLER, **cfg)) != expected,
        )
    for fact in ('things', 'stuff', 'without_pixels', 'stuff_without_pixels', 'empty_masks'):
        assert total[fact] > 25, total
    assert total['no_instances'] > 2, total
    for rule in ('at_least', 'limit', 'smaller'):
        assert disagreements[rule] > 5, disagreements


def test_equal_scores_go_in_the_given_order(tmp_path):
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], dtype=bool)
    scores, labels = np.float32([0.8, 0.8]), np.array([0, 1])
    inputs = masks, scores, labels, np.full((1, 3), THINGS + STUFF)
    expected = {(0, b'\x01\x01\x00'), (1, b'\x00\x00\x01')}
    assert by_panopticapi(tmp_path, inputs, 0.5, 1) == expected
    assert by_head(inputs, 0.5, 1) == expected


def test_shares_are_divided_exactly_where_mmdet_adds_to_the_area(tmp_path):
    # A third of the second object is taken: more than 0.33333, but 1 / (3 + 1e-5) is less.
    masks = np.array([[[1, 0, 0]], [[1, 1, 1]]], dtype=bool)
    scores, labels = np.float32([0.9, 0.8]), np.array([0, 1])
    inputs = masks, scores, labels, np.full((1, 3), THINGS)
    dropped = {(0, b'\x01\x00\x00'), (THINGS, b'\x00\x01\x01')}
    assert by_panopticapi(tmp_path, inputs, 0.33333, 1) == dropped
    assert by_head(inputs, 0.33333, 1) == dropped

    cfg = ConfigDict(mask_overlap=0.33333, stuff_area_limit=1)
    (instances,), _ = head_inputs(inputs)
    logits = torch.zeros(STUFF + 1, 1, 3)
    (result,) = HeuristicFusionHead(THINGS, STUFF, cfg).predict([instances], [logits])
    assert len(result.sem_seg.unique()) == 2  # both objects, and no stuff is left to see
