"""The learned rule against its features computed pixel by pixel, and what it must keep to."""

import math

import numpy as np
import pytest
import torch

from mmbanet.models.fusion import CombinedOrder, OcclusionAwareFusionHead, resolve_occlusion
from mmbanet.models.fusion.order.combined_order import vertical_extent
from mmbanet.models.fusion.order.combined_weights import WEIGHTS
from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from ....conftest import DEVICES
from ..scenes import crowded_scene, to_tensors
from .test_contour_contrast import BLUE, PAIR, RED, ask, disc, paint, random_blobs, strength


def naive_histogram(image, own, other):
    """Mean log-probability of the overlap's pixels in the histogram of ``own``."""
    cells = [tuple(pixel // 32) for pixel in image.permute(1, 2, 0)[own & other].numpy()]
    alone = own & ~other if (own & ~other).sum() >= 0.1 * own.sum() else own
    described = [tuple(pixel // 32) for pixel in image.permute(1, 2, 0)[alone].numpy()]
    share = [(described.count(cell) + 8 / 512) / (len(described) + 8) for cell in cells]
    return np.mean(np.log(share))


def naive_features(image, first, second):
    """Object by object: what :meth:`CombinedOrder.features` says it computes."""
    rows = [np.flatnonzero(mask.any(axis=1)) for mask in (first, second)]
    (top1, end1), (top2, end2) = [(row[0], row[-1] + 1) for row in rows]
    strengths = [strength(image, first, second), strength(image, second, first)]
    seen = [6 if np.isnan(value) else value for value in strengths]
    both = (first & second).sum()
    ground = math.tanh((end1 - end2) / (0.1 * math.hypot(end1 - top1, end2 - top2)))
    histogram = naive_histogram(image, first, second) - naive_histogram(image, second, first)
    return dict(
        contour=np.log1p(seen[0]) - np.log1p(seen[1]),
        histogram=np.clip(histogram, -4, 4),
        area=np.log(second.sum() / first.sum()),
        share=both / first.sum() - both / second.sum(),
        ground=ground,
        ground_low=ground * (max(end1, end2) / len(first) - 0.5),
    )


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('ground', [True, False])
def test_evidence_is_that_of_features_computed_object_by_object(device, ground):
    weights = WEIGHTS['ground' if ground else 'no_ground']
    compared = 0
    for seed in range(25):
        image, (first, second) = random_blobs(seed)
        if not (first & second).any():
            continue
        regions = ClaimRegions.from_masks(torch.from_numpy(np.stack([first, second])).to(device))
        pairs = PAIR.to(device)
        features = CombinedOrder.features(image.to(device), regions, pairs)
        expected = naive_features(image, first, second)
        assert set(features) == set(expected) == set(WEIGHTS['ground'])
        for name, value in expected.items():  # OpenCV's Lab, in the contour's, is from a table
            tolerance = 0.1 if name == 'contour' else 1e-9
            assert features[name].item() == pytest.approx(value, abs=tolerance), name
        evidence = CombinedOrder(ground=ground).evidence(image.to(device), regions, pairs)
        total = sum(weight * features[name].item() for name, weight in weights.items())
        assert evidence.item() == pytest.approx(total, abs=1e-6)
        compared += 1
    assert compared >= 15


@pytest.mark.parametrize('ground', [True, False])
def test_the_object_that_is_seen_is_in_front(ground):
    red, blue = disc(80, 100, 40, 40, 24), disc(80, 100, 40, 62, 24)
    rule = CombinedOrder(ground=ground)
    for front, behind, colours in ((red, blue, (RED, BLUE)), (blue, red, (BLUE, RED))):
        evidence = ask(rule, paint([front, behind], colours, noise=8), [front, behind])
        assert evidence > 3
        assert torch.equal(
            ask(rule, paint([front, behind], colours, noise=8), [behind, front]), -evidence
        )


def test_of_two_alike_the_lower_one_is_in_front_only_where_the_ground_counts():
    near, far = disc(80, 100, 50, 50, 20), disc(80, 100, 36, 50, 20)
    image = paint([near | far], [RED])
    assert ask(CombinedOrder(), image, [near, far]) > 1
    assert ask(CombinedOrder(), image, [far, near]) < -1
    assert abs(ask(CombinedOrder(ground=False), image, [near, far])) < 1e-6


def test_it_tells_nothing_of_which_it_is_not_sure():
    told = 0
    for seed in range(25):
        image, masks = random_blobs(seed)
        sure = ask(CombinedOrder(), image, masks)
        probability = 1 / (1 + math.exp(-abs(sure.item())))
        for least, expected in ((probability - 1e-3, sure), (probability + 1e-3, 0 * sure)):
            if 0.5 <= least < 1:
                assert torch.equal(ask(CombinedOrder(least), image, masks), expected)
                told += 1
    assert told > 15


@pytest.mark.parametrize('device', DEVICES)
def test_the_same_each_time_and_whatever_the_image_is_made_of(device):
    for seed in range(5):
        image, masks = random_blobs(seed)
        first = ask(CombinedOrder(), image.to(device), masks)
        assert torch.equal(ask(CombinedOrder(), image.to(device), masks), first)
        assert torch.equal(ask(CombinedOrder(), image.double().to(device), masks), first)


def test_degenerate_inputs():
    rule = CombinedOrder()
    pixel = np.zeros((5, 6), bool)
    pixel[2, 3] = True
    image = torch.full((3, 5, 6), 90, dtype=torch.uint8)
    whole, empty = np.ones_like(pixel), np.zeros_like(pixel)
    assert ask(rule, image, [pixel, pixel]) == 0
    assert ask(rule, image, [whole, whole]) == 0
    assert ask(rule, image, [pixel, whole]).isfinite()
    assert ask(rule, image, [pixel, empty]).isfinite()
    assert ask(rule, image, [empty, empty]) == 0
    assert ask(rule, image, [pixel, whole], PAIR[:0]).shape == (0,)
    assert ask(rule, torch.zeros(3, 0, 7), np.zeros((2, 0, 7), bool)) == 0


def test_vertical_extent_is_that_of_each_mask():
    for seed in range(20):
        masks = to_tensors(crowded_scene(seed), 'cpu')['masks']
        top, bottom = vertical_extent(ClaimRegions.from_masks(masks))
        for mask, first, last in zip(masks, top.tolist(), bottom.tolist()):
            rows = mask.any(dim=1).nonzero().squeeze(1).tolist()
            assert (first, last) == ((rows[0], rows[-1] + 1) if rows else (0, 0))


def test_a_config_and_the_function_take_it():
    red, blue = disc(80, 100, 40, 40, 24), disc(80, 100, 40, 62, 24)
    masks = torch.from_numpy(np.stack([red, blue]))
    image = paint([blue, red], [BLUE, RED])
    owner, _ = resolve_occlusion(masks, torch.tensor([0.9, 0.8]), image, order=CombinedOrder())
    assert (owner[torch.from_numpy(red & blue)] == 1).all()
    rule = MODELS.build(dict(type='mmbanet.CombinedOrder', ground=False))
    assert rule.name == 'CombinedOrder'
    assert OcclusionAwareFusionHead(order=dict(type='mmbanet.CombinedOrder')).needs_images


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(least_probability=0.4), ValueError, 'least_probability must be in 0.5..1, .*got 0.4'),
        (dict(least_probability=1), ValueError, 'least_probability must be in 0.5..1, .*got 1'),
        (dict(ground=None), TypeError, 'ground must be True or False, got None'),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        CombinedOrder(**settings)
