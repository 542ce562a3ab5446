"""The graph that explains a decision, on hand-worked strips of one row."""

import torch

from mmbanet.models.fusion import OcclusionSettings, explain_occlusion, resolve_occlusion
from mmbanet.models.fusion.heuristic import score_order

from .scenes import random_scene

RED, GREEN = (200, 20, 20), (20, 200, 20)


def strip(*colours):
    return torch.tensor(colours, dtype=torch.uint8).T[:, None]


def claims(*rows):
    return torch.tensor([[[c == '1' for c in row]] for row in rows])


def test_every_pair_says_what_decided_it():
    # 0 and 1 share a green pixel, a quarter of 1; 1 and 2 share a sixth of 2, a tenth of nothing.
    masks = claims('111100000000', '000111100000', '000000111111')
    image = strip(*[RED] * 3, *[GREEN] * 9)
    quarter = OcclusionSettings(occlusion_thr=0.25)
    owner, graph = explain_occlusion(masks, torch.tensor([0.9, 0.8, 0.7]), image, settings=quarter)
    assert graph.pairs.tolist() == [[0, 1], [1, 2]]
    assert graph.rules == ['score', 'score']
    assert graph.evidence.tolist() == [0, 0]
    owner, graph = explain_occlusion(masks, torch.tensor([0.9, 0.8, 0.7]), image)
    assert graph.pairs.tolist() == [[1, 0], [1, 2]]
    # All of 1 and 2 are green: the rule cannot tell, and the score decides after all.
    assert graph.rules == ['MeanColor', 'score']
    assert graph.overlap.tolist() == [1, 1]
    assert graph.share.tolist() == [0.25, 0.25]
    assert graph.evidence[0] > 0.1
    assert graph.evidence[1] == 0
    assert graph.accepted.all()
    assert graph.areas.tolist() == [4, 4, 6]
    assert graph.in_front.tolist() == [
        [False, False, False],
        [True, False, True],
        [False, False, False],
    ]
    assert owner.tolist() == [[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]]


def test_a_contradiction_is_set_aside():
    masks = claims('111', '111', '111')
    wish = torch.zeros(3, 3, dtype=torch.int8)
    wish[0, 1] = wish[1, 2] = wish[2, 0] = 1
    wish = wish - wish.T
    image = strip(RED, RED, RED)
    _, graph = explain_occlusion(masks, torch.tensor([0.7, 0.9, 0.8]), image, preference=wish)
    assert graph.rules == ['preference'] * 3
    assert graph.pairs.tolist() == [[0, 1], [1, 2], [2, 0]]
    assert graph.accepted.tolist() == [True, True, False]
    assert graph.in_front.tolist() == [
        [False, True, True],
        [False, False, True],
        [False, False, False],
    ]
    assert graph.keep.tolist() == [True, False, False]


def test_explaining_changes_nothing():
    for seed in range(100):
        scene = {name: torch.from_numpy(value) for name, value in random_scene(seed).items()}
        owner, keep = resolve_occlusion(**scene)
        explained, graph = explain_occlusion(**scene)
        assert torch.equal(owner, explained)
        assert torch.equal(keep, graph.keep)
        assert torch.equal(graph.areas, scene['masks'].flatten(1).sum(dim=1))
        # Whatever was accepted holds in the end, and any two that overlap are ordered.
        front, behind = graph.pairs.unbind(dim=1)
        assert torch.equal(graph.in_front[front, behind], graph.accepted)
        assert torch.equal(graph.in_front[behind, front], ~graph.accepted)


def test_score_order_has_a_graph_too():
    masks = claims('1110', '0111', '0000')
    scores = torch.tensor([0.7, 0.9, 0.8])
    _, graph = explain_occlusion(masks, scores, settings=score_order(0.5))
    assert graph.pairs.tolist() == [[1, 0]]
    assert graph.rules == ['score']
    assert graph.keep.tolist() == [False, True, False]
    assert graph.areas.tolist() == [3, 3, 0]
    assert graph.in_front[1].tolist() == [True, False, False]


def test_no_objects_at_all():
    owner, graph = explain_occlusion(
        torch.zeros(0, 2, 3, dtype=torch.bool), torch.zeros(0), torch.zeros(3, 2, 3)
    )
    assert (owner == -1).all()
    assert graph.pairs.shape == (0, 2)
    assert graph.in_front.shape == (0, 0)
    assert graph.rules == []
