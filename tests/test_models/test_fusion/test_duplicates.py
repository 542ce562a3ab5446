"""Duplicates against a naive search, hand-worked masks, and what fusion makes of them."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmbanet.models.fusion import (
    ContourContrast,
    DuplicateFilter,
    OcclusionSettings,
    explain_occlusion,
)
from mmbanet.registry import MODELS
from mmbanet.structures import ClaimRegions

from ...conftest import CONFIGS, DEVICES
from .scenes import crowded_scene, to_tensors
from .test_head import make_head, make_instances
from .test_order.test_contour_contrast import BLUE, RED, disc, paint

ANY_CLASS = dict(same_class=False, visible=float('inf'))
SMALLER = dict(type='mmbanet.SmallerInFront')


def find(masks, scores, image=None, labels=None, known=None, **settings):
    masks = torch.as_tensor(np.stack(masks))
    regions = ClaimRegions.from_masks(masks)
    found, alike = DuplicateFilter(**settings).find(
        image, regions, torch.tensor(scores), labels, known
    )
    assert alike.shape == found.shape
    return [tuple(pair) for pair in found.tolist()]


def naive(masks, scores, labels, strengths, iou, containment, same_class, visible):
    """(dropped, kept) and how alike: a loop over objects, by their scores."""
    masks = [mask.numpy() for mask in masks]
    stay, found = [], []
    for k in sorted(range(len(masks)), key=lambda k: (-scores[k], k)):
        for other in stay:
            both = (masks[k] & masks[other]).sum()
            if both == 0 or (same_class and labels[k] != labels[other]):
                continue
            contours = [strengths[k, other], strengths[other, k]]
            if any(strength >= visible for strength in contours if not np.isnan(strength)):
                continue
            shares = (
                both / (masks[k] | masks[other]).sum(),
                both / min(masks[k].sum(), masks[other].sum()),
            )
            if shares[0] >= iou or shares[1] >= containment:
                found.append(((k, other), shares))
                break
        else:
            stay.append(k)
    return found


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('same_class', [True, False])
@pytest.mark.parametrize('visible', [float('inf'), 30.0])
def test_finds_what_a_loop_finds(device, same_class, visible):
    settings = dict(iou=0.3, containment=0.6, same_class=same_class, visible=visible)
    reasons = [0, 0]
    for seed in range(40):
        scene = crowded_scene(seed)
        masks, count = torch.from_numpy(scene['masks']), len(scene['masks'])
        labels = torch.arange(count) % 2
        regions = ClaimRegions.from_masks(masks)
        pairs = torch.cartesian_prod(torch.arange(count), torch.arange(count))
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        image = torch.from_numpy(scene['image'])
        strengths = np.full((count, count), np.nan)
        if len(pairs):
            computed = ContourContrast().strengths(image, regions, pairs)
            strengths[tuple(pairs.T.numpy())] = computed
        expected = naive(masks, scene['scores'].tolist(), labels, strengths, **settings)
        there = to_tensors(scene, device)
        found, alike = DuplicateFilter(**settings).find(
            there['image'],
            ClaimRegions.from_masks(there['masks']),
            there['scores'],
            labels.to(device),
        )
        assert [tuple(pair) for pair in found.tolist()] == [pair for pair, _ in expected]
        assert alike.tolist() == [pytest.approx(shares) for _, shares in expected]
        reasons[0] += sum(shares[0] >= 0.3 for _, shares in expected)
        reasons[1] += sum(shares[0] < 0.3 for _, shares in expected)
    assert min(reasons) >= 5


def test_a_visible_contour_spares_what_lies_inside():
    """A tie on a person, and a fragment of the person: the masks are the same."""
    person, tie = disc(80, 80, 40, 40, 34), disc(80, 80, 40, 40, 12)
    shown, hidden = paint([tie, person], [RED, BLUE]), paint([person], [BLUE])
    one_class = torch.tensor([0, 0])
    for masks, fragment in (([person, tie], 1), ([tie, person], 0)):
        scores = [0.9, 0.9]
        scores[fragment] = 0.8
        assert find(masks, scores, shown, one_class) == []
        assert find(masks, scores, hidden, one_class) == [(fragment, 1 - fragment)]
        other_class = torch.tensor([0, 1])
        assert find(masks, scores, hidden, other_class, same_class=True) == []
        assert find(masks, scores, hidden, other_class) != []
        assert find(masks, scores, hidden, one_class, containment=None) == []
        everything = torch.ones(2, 2, dtype=torch.bool)
        assert find(masks, scores, hidden, one_class, everything) == []


def test_shares_on_the_limit_count_and_a_duplicate_has_no_duplicates():
    masks = np.zeros((3, 1, 8), bool)
    masks[0, 0, :4], masks[1, 0, 2:6], masks[2, 0, 4:8] = True, True, True
    # 1 doubles 0 (a third is shared); 2 would double 1, which is gone.
    assert find(masks, [0.9, 0.8, 0.7], iou=1 / 3, **ANY_CLASS) == [(1, 0)]
    assert find(masks, [0.9, 0.9, 0.9], iou=1 / 3, **ANY_CLASS) == [(1, 0)]
    assert find(masks, [0.7, 0.9, 0.8], iou=1 / 3, **ANY_CLASS) == [
        (2, 1),
        (0, 1),
    ]
    assert find(masks, [0.9, 0.8, 0.7], iou=0.34, **ANY_CLASS) == []
    assert find(masks, [0.9, 0.8, 0.7], iou=None, containment=0.5, **ANY_CLASS) == [(1, 0)]


def test_nothing_is_no_duplicate():
    empty = np.zeros((2, 4, 5), bool)
    assert find(empty, [0.9, 0.8], iou=0.0, containment=0.0, **ANY_CLASS) == []
    pixel = empty.copy()
    pixel[:, 2, 2] = True
    image = torch.zeros(3, 4, 5)
    assert find(pixel, [0.8, 0.9], image) == [(0, 1)]
    none = ClaimRegions.from_masks(torch.zeros(0, 4, 5, dtype=torch.bool))
    labels = torch.zeros(0, dtype=torch.int64)
    assert DuplicateFilter(same_class=True).find(image, none, torch.zeros(0), labels)[0].shape == (
        0,
        2,
    )


def test_the_graph_names_what_was_dropped_and_the_rest_is_as_without_it():
    for seed in range(40):
        scene = to_tensors(crowded_scene(seed), 'cpu')
        scene = {name: scene[name] for name in ('masks', 'scores', 'image')}
        settings = OcclusionSettings(duplicates=DuplicateFilter(0.3, 0.6, **ANY_CLASS))
        owner, graph = explain_occlusion(**scene, settings=settings)
        dropped = torch.zeros(len(scene['scores']), dtype=torch.bool)
        dropped[graph.duplicates[:, 0]] = True
        left = (~dropped).nonzero().squeeze(1)
        rest = dict(scene, masks=scene['masks'][left], scores=scene['scores'][left])
        expected, expected_graph = explain_occlusion(**rest)
        assert torch.equal(owner, torch.cat([left, torch.tensor([-1])])[expected])
        assert not graph.keep[dropped].any()
        assert torch.equal(graph.keep[left], expected_graph.keep)
        assert torch.equal(graph.pairs, left[expected_graph.pairs])
        assert graph.rules == expected_graph.rules
        assert torch.equal(graph.areas, scene['masks'].flatten(1).sum(dim=1))


@pytest.mark.parametrize('order', [None, SMALLER])
def test_a_config_drops_them_and_the_segments_say_so(order):
    whole, part = disc(40, 40, 20, 20, 15), disc(40, 40, 20, 20, 8)
    image = paint([whole], [BLUE])
    instances = make_instances(np.stack([part, whole]), [0.6, 0.9], [0, 0])
    logits = torch.zeros(7, 40, 40)
    head = make_head(order)
    (before,) = head.predict([instances], [logits], [image])
    assert before.occlusion.duplicates.shape == (0, 2)
    assert 'duplicates' not in before.segments_info[0]
    config = dict(
        type='mmbanet.OcclusionAwareFusionHead',
        num_things_classes=4,
        num_stuff_classes=3,
        order=order,
    )
    head = MODELS.build(
        config | dict(duplicates=dict(type='mmbanet.DuplicateFilter'), test_cfg=head.test_cfg)
    )
    assert head.needs_images
    (after,) = head.predict([instances], [logits], [image])
    assert after.segments_info[0]['duplicates'] == [
        dict(detection=0, iou=pytest.approx(part.sum() / whole.sum()), containment=1.0)
    ]
    assert [segment['category'] for segment in after.segments_info if segment['is_thing']] == [0]
    assert after.occlusion.pairs.tolist() == []


@pytest.mark.parametrize('name', ['r18_fpn_camvid', 'r50_fpn_dfm_1x_coco'])
def test_the_configs_of_the_contour_drop_duplicates_and_the_papers_do_not(name):
    heads = []
    for suffix in ('', '_contour'):
        model = Config.fromfile(CONFIGS / 'banet' / f'banet_{name}{suffix}.py').model
        test_cfg = model.test_cfg.panoptic
        heads.append(MODELS.build(dict(model.panoptic_fusion_head, test_cfg=test_cfg)))
    paper, contour = heads
    assert paper.settings.duplicates is None
    assert [rule.name for rule in paper.settings.rules] == ['MeanColor']
    assert isinstance(contour.settings.duplicates, DuplicateFilter)
    assert [rule.name for rule in contour.settings.rules] == ['ContourContrast']


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(iou=1.5), ValueError, 'iou must be in 0..1, got 1.5'),
        (dict(containment='all'), TypeError, "containment must be a number in 0..1, got 'all'"),
        (dict(same_class=1), TypeError, 'same_class must be True or False, got 1'),
        (dict(visible=-1), ValueError, 'visible must be 0 or more, got -1'),
        (dict(visible=None), TypeError, 'visible must be a number of Lab units, got None'),
    ],
)
def test_bad_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        DuplicateFilter(**settings)


def test_missing_labels_and_other_filters_are_refused():
    masks = np.ones((2, 3, 3), bool)
    with pytest.raises(ValueError, match='labels must be given to find duplicates'):
        find(masks, [0.9, 0.8], torch.zeros(3, 3, 3), same_class=True)
    with pytest.raises(TypeError, match='duplicates must be a DuplicateFilter or None, got dict'):
        OcclusionSettings(duplicates={})
