"""Boxes and pixels against loops in plain Python."""

from fractions import Fraction

import pytest
import torch

from mmbanet.models.fusion import resolve_occlusion
from mmbanet.models.oracles import match_boxes, true_preference

from .scenes import full_masks, visible_masks


def iou_by_pixels(first, second) -> Fraction:
    """IoU of boxes with integer corners, by counting unit squares."""
    squares = [
        {(x, y) for x in range(x1, x2) for y in range(y1, y2)} for x1, y1, x2, y2 in (first, second)
    ]
    return Fraction(len(squares[0] & squares[1]), len(squares[0] | squares[1]))


def random_boxes(count, generator):
    """In a grid so small that equal IoUs and equal boxes are frequent."""
    start = torch.randint(0, 2, (count, 2), generator=generator)
    return torch.cat([start, start + torch.randint(1, 4, (count, 2), generator=generator)], dim=1)


def test_match_boxes_equals_counting_pixels():
    ties = exact = 0
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        boxes, truth = random_boxes(5, generator), random_boxes(4, generator)
        ious = [[iou_by_pixels(b, t) for t in truth.tolist()] for b in boxes.tolist()]
        expected = [row.index(max(row)) if max(row) > Fraction(1, 2) else -1 for row in ious]
        assert match_boxes(boxes.float(), truth.float(), 0.5).tolist() == expected
        ties += sum(row.count(max(row)) > 1 and max(row) > Fraction(1, 2) for row in ious)
        exact += sum(max(row) == Fraction(1, 2) for row in ious)
    assert ties > 10
    assert exact > 10


def test_several_predictions_may_stand_for_one_thing():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    assert match_boxes(boxes, boxes[:1], 0.5).tolist() == [0, 0, -1]


@pytest.mark.parametrize(('count', 'things'), [(3, 0), (0, 2), (0, 0)])
def test_nothing_to_match(count, things):
    boxes, truth = torch.rand(count, 4), torch.rand(things, 4)
    matches = match_boxes(boxes, truth, 0.5)
    assert matches.tolist() == [-1] * count
    assert matches.dtype == torch.int64
    masks = torch.ones(count, 4, 4, dtype=torch.bool)
    preference = true_preference(masks, matches, torch.ones(things, 4, 4, dtype=torch.bool))
    assert preference.tolist() == [[0] * count] * count


def preference_by_pixels(masks, matches, truth):
    """One pair and one pixel at a time."""
    count, height, width = masks.shape
    preference = [[0] * count for _ in range(count)]
    for i in range(count):
        for j in range(count):
            if matches[i] < 0 or matches[j] < 0 or matches[i] == matches[j]:
                continue
            votes = 0
            for y in range(height):
                for x in range(width):
                    if masks[i, y, x] and masks[j, y, x]:
                        votes += int(truth[matches[i], y, x]) - int(truth[matches[j], y, x])
            preference[i][j] = (votes > 0) - (votes < 0)
    return preference


def test_true_preference_equals_voting_pixels():
    said = silent = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        masks = torch.rand(5, 4, 5, generator=generator) < 0.5
        owner = torch.randint(-1, 3, (4, 5), generator=generator)  # -1: stuff
        truth = owner == torch.arange(3)[:, None, None]
        matches = torch.randint(-1, 3, (5,), generator=generator)
        preference = true_preference(masks, matches, truth)
        assert preference.dtype == torch.int8
        assert preference.tolist() == preference_by_pixels(masks, matches, truth)
        assert torch.equal(preference, -preference.T)
        both = (matches >= 0)[:, None] & (matches >= 0) & (matches[:, None] != matches)
        said += int((preference != 0).sum())
        silent += int((preference[both] == 0).sum())
    assert said > 100
    assert silent > 50


def test_pairs_that_the_annotation_says_nothing_of():
    masks = torch.ones(4, 1, 6, dtype=torch.bool)
    truth = torch.tensor([[[1, 1, 0, 0, 0, 0]], [[0, 0, 1, 1, 0, 0]], [[0, 0, 0, 0, 1, 0]]]).bool()
    preference = true_preference(masks, torch.tensor([0, 1, 2, -1]), truth)
    assert preference.tolist() == [
        [0, 0, 1, 0],  # as many pixels as 1 owns, more than 2
        [0, 0, 1, 0],
        [-1, -1, 0, 0],
        [0, 0, 0, 0],  # stands for nothing
    ]
    assert true_preference(masks[:2], torch.tensor([0, 0]), truth).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_rounds_no_counts(dtype):
    masks = torch.ones(2, 300, 500, dtype=torch.bool)
    truth = torch.zeros_like(masks)
    truth[0].view(-1)[:75_001] = True  # of 150,000, over float16's range
    truth[1] = ~truth[0]
    with torch.autocast('cpu', dtype):
        preference = true_preference(masks, torch.tensor([0, 1]), truth)
    assert preference.tolist() == [[0, 1], [-1, 0]]


@pytest.mark.parametrize('front_to_back', [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_full_masks_become_the_visible_ones(front_to_back):
    """Against scores; without the preference, two of the three orders come out wrong."""
    masks, truth = full_masks(), visible_masks(front_to_back)
    image = torch.full((3, *masks.shape[1:]), 100.0)
    scores = torch.tensor([0.7, 0.9, 0.8])
    preference = true_preference(masks, torch.arange(3), truth)

    def owned(preference):
        owner, _ = resolve_occlusion(masks, scores, image, preference=preference)
        return owner == torch.arange(3)[:, None, None]

    assert torch.equal(owned(preference), truth)
    assert torch.equal(owned(None), truth) == (front_to_back == (1, 0, 2))
