"""What every order rule keeps to, and what several of them make of a pair."""

import pytest
import torch

from mmbanet.models.fusion import (
    ColorHistogram,
    CombinedOrder,
    ContourContrast,
    LabGaussian,
    MeanColor,
    OcclusionSettings,
    OrderRule,
    SmallerInFront,
    explain_occlusion,
)
from mmbanet.structures import ClaimRegions

from ....conftest import DEVICES
from ..scenes import crowded_scene, to_tensors

RULES = [
    MeanColor(),
    LabGaussian(),
    ColorHistogram(),
    SmallerInFront(),
    ContourContrast(0, 0),
    CombinedOrder(),
]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('rule', RULES, ids=lambda rule: rule.name)
def test_evidence_is_antisymmetric_and_that_of_each_pair_alone(rule, device):
    told = 0
    for seed in range(40):
        scene = to_tensors(crowded_scene(seed), device)
        regions = ClaimRegions.from_masks(scene['masks'])
        pairs = regions.overlaps.triu(diagonal=1).nonzero()
        if len(pairs) == 0:
            continue
        evidence = rule.evidence(scene['image'], regions, pairs)
        assert evidence.dtype == torch.float64
        assert evidence.shape == pairs.shape[:1]
        assert torch.equal(rule.evidence(scene['image'], regions, pairs.flip(1)), -evidence)
        some = torch.arange(len(pairs) - 1, -1, -2, device=device)
        assert torch.equal(rule.evidence(scene['image'], regions, pairs[some]), evidence[some])
        told += int((evidence != 0).sum())
    assert told > 500


def test_smaller_in_front_counts_pixels():
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[0], masks[1, 0], masks[2, :, 0] = True, True, True
    regions = ClaimRegions.from_masks(masks)
    pairs = torch.tensor([[0, 1], [2, 0], [1, 2], [1, 1]])
    assert SmallerInFront().evidence(None, regions, pairs).tolist() == [-4, 6, -2, 0]


class Recorder(OrderRule):
    """Tells of the pairs in a table, and remembers which it was asked about."""

    def __init__(self, **evidence):
        self.table = {tuple(map(int, pair[1:])): value for pair, value in evidence.items()}
        self.asked = []

    def evidence(self, image, regions, pairs):
        self.asked.append([tuple(pair) for pair in pairs.tolist()])
        return torch.tensor([self.table.get(pair, 0.0) for pair in self.asked[-1]]).double()


class Second(Recorder):
    pass


def test_rules_are_asked_in_turn_about_occluded_pairs_that_are_open():
    # Each of 0, 1, 2 overlaps the others by a half; 3 touches 2 by a tenth.
    masks = torch.zeros(4, 1, 40, dtype=torch.bool)
    masks[0, 0, :10] = masks[1, 0, 5:15] = True
    masks[2, 0, [*range(5), *range(10, 15), 20]] = True
    masks[3, 0, 20:35] = True
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    image = torch.zeros(3, 1, 40)
    first, second, third = Recorder(_01=-2.0), Second(_02=-0.5), Recorder()
    preference = torch.zeros(4, 4, dtype=torch.int8)
    settings = OcclusionSettings(order=[first, second, third])

    _, graph = explain_occlusion(masks, scores, image, settings=settings)
    assert first.asked == [[(0, 1), (0, 2), (1, 2)]]
    assert second.asked == [[(0, 2), (1, 2)]]
    assert third.asked == [[(1, 2)]]
    assert graph.pairs.tolist() == [[1, 0], [2, 0], [1, 2], [2, 3]]
    assert graph.rules == ['Recorder', 'Second', 'score', 'score']
    assert graph.evidence.tolist() == [2, 0.5, 0, 0]

    preference[1, 0], preference[0, 1] = -1, 1  # what is known is not asked
    _, graph = explain_occlusion(masks, scores, image, preference, settings=settings)
    assert first.asked[1:] == [[(0, 2), (1, 2)]]
    assert graph.pairs.tolist() == [[0, 1], [2, 0], [1, 2], [2, 3]]
    assert graph.rules == ['preference', 'Second', 'score', 'score']
    assert graph.evidence.tolist() == [0, 0.5, 0, 0]


def test_without_occluded_pairs_no_rule_is_asked():
    masks = torch.zeros(2, 1, 20, dtype=torch.bool)
    masks[0, 0, :10] = masks[1, 0, 9:] = True
    rule = Recorder()
    settings = OcclusionSettings(order=rule)
    explain_occlusion(masks, torch.tensor([0.9, 0.8]), torch.zeros(3, 1, 20), settings=settings)
    assert rule.asked == []
