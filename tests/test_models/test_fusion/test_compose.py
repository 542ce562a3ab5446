"""Maps and segments of known owners, and what segments say of contradictions."""

import json

import pytest
import torch

from mmbanet.models.fusion import (
    OcclusionSettings,
    compose,
    compose_panoptic_map,
    explain_occlusion,
)
from mmbanet.models.fusion.compose import segments_info
from mmbanet.structures import INSTANCE_OFFSET

# Two things (0, 1) and three stuff classes (2, 3, 4); void is 5.
THINGS, STUFF, VOID = 2, 3, 5


def compose_map(owner, semantics, labels=(), stuff_area_limit=0, things=THINGS, stuff=STUFF):
    return compose_panoptic_map(
        torch.tensor(owner, dtype=torch.int64),
        torch.tensor(semantics, dtype=torch.int32),
        torch.tensor(labels, dtype=torch.int64),
        torch.linspace(0.75, 0.5, len(labels)),
        things,
        stuff,
        stuff_area_limit,
    )


def test_instances_overwrite_stuff_and_unowned_things_are_void():
    # 1 has no pixels and gets no id.
    result = compose_map([[2, -1, -1], [0, -1, -1]], [[2, 2, 0], [3, VOID, 1]], [1, 0, 0])
    first, second = 1 + INSTANCE_OFFSET, 2 * INSTANCE_OFFSET
    assert result.mmdet_ids.tolist() == [[second, 2, VOID], [first, VOID, VOID]]
    assert result.segment_ids.tolist() == [[2, 3, 0], [1, 0, 0]]
    assert result.mmdet_ids.dtype == result.segment_ids.dtype == torch.int32
    assert result.objects == [0, 2]
    assert result.segments == [
        dict(id=1, category=1, is_thing=True, score=0.75, area=1),
        dict(id=2, category=0, is_thing=True, score=0.5, area=1),
        dict(id=3, category=2, is_thing=False, score=None, area=1),
    ]


@pytest.mark.parametrize(
    ('limit', 'expected'),
    [
        (2, [[2, 2, 2, 3], [3, 4, 4, -1]]),
        (3, [[2, 2, 2, VOID], [VOID, VOID, VOID, -1]]),
        (4, [[VOID] * 4, [VOID, VOID, VOID, -1]]),
    ],
)
def test_small_stuff_is_void_and_counts_what_is_visible(limit, expected):
    owner = [[-1, -1, -1, -1], [-1, -1, -1, 0]]
    result = compose_map(owner, [[2, 2, 2, 3], [3, 4, 4, 4]], [1], limit)
    expected[1][3] = 1 + INSTANCE_OFFSET
    assert result.mmdet_ids.tolist() == expected


def test_no_instances_and_nothing_else():
    result = compose_map([[-1, -1], [-1, -1]], [[2, 3], [2, VOID]], stuff_area_limit=2)
    assert result.mmdet_ids.tolist() == [[2, VOID], [2, VOID]]
    assert compose_map([[]], [[]]).segments == []


def many_things(count, labels, things, stuff):
    """One row: ``count`` objects of one pixel, then two pixels of the last stuff class."""
    owner = [[*range(count), -1, -1]]
    semantics = [[things + stuff - 1] * (count + 2)]
    return compose_map(owner, semantics, labels, 0, things, stuff)


def test_a_thousand_classes_and_17000_instances_do_not_collide():
    count, things, stuff = 17_000, 600, 400
    labels = [k % things for k in range(count)]
    result = many_things(count, labels, things, stuff)
    assert result.segment_ids.tolist() == [[*range(1, count + 1), count + 1, count + 1]]
    assert [s['id'] for s in result.segments] == list(range(1, count + 2))
    assert [s['category'] for s in result.segments] == [*labels, things + stuff - 1]
    assert result.mmdet_ids is None


@pytest.mark.parametrize(
    ('count', 'classes', 'fits'),
    [(16_776, 999, True), (16_777, 999, False), (3, 1000, False)],
)
def test_mmdets_encoding_is_given_as_far_as_24_bits_reach(count, classes, fits):
    # The highest ids there are: all instances of the last thing class.
    result = many_things(count, [classes - 2] * count, classes - 1, 1)
    assert (result.mmdet_ids is not None) == fits
    if fits:
        ids = result.mmdet_ids[0].tolist()
        assert max(ids) < 2**24
        assert len(set(ids)) == count + 1
        assert [i % INSTANCE_OFFSET for i in ids[:-2]] == [classes - 2] * count


def test_more_segments_than_ids_are_refused(monkeypatch):
    monkeypatch.setattr(compose, 'MAX_SEGMENT_ID', 3)
    many_things(2, [0, 0], THINGS, STUFF)
    with pytest.raises(ValueError, match='4 segments, but there are only 3 ids'):
        many_things(3, [0, 0, 0], THINGS, STUFF)


def test_both_segments_of_a_contradicted_pair_say_so():
    """0 is in front of 1, 2 in front of 0, and so 1 in front of 2 does not count."""
    masks = torch.zeros(3, 1, 7, dtype=torch.bool)
    masks[0, 0, [0, 2, 3]] = True
    masks[1, 0, [1, 2, 4]] = True
    masks[2, 0, [3, 4, 5]] = True
    cycle = torch.tensor([[0, 1, -1], [-1, 0, 1], [1, -1, 0]], dtype=torch.int8)
    scores = torch.tensor([0.9, 0.8, 0.7])
    image = torch.zeros(3, 1, 7)
    settings = OcclusionSettings(removal_thr=1.0)
    owner, graph = explain_occlusion(masks, scores, image, cycle, settings=settings)
    assert owner.tolist() == [[0, 1, 0, 2, 2, 2, -1]]
    labels, semantics = torch.zeros(3, dtype=torch.int64), torch.ones(1, 7, dtype=torch.int32)
    panoptic = compose_panoptic_map(owner, semantics, labels, scores, 1, 1, 0)

    *things, stuff = segments_info(panoptic, graph, detections=[5, 3, 8])
    assert [thing['detection'] for thing in things] == [5, 3, 8]
    assert 'overlaps' not in stuff
    id_of = {thing['detection']: thing['id'] for thing in things}
    found = {
        (thing['detection'], pair['detection']): (pair['in_front'], pair['set_aside'])
        for thing in things
        for pair in thing['overlaps']
    }
    assert found == {
        (5, 3): (True, False),
        (3, 5): (False, False),
        (8, 5): (True, False),
        (5, 8): (False, False),
        (3, 8): (False, True),  # the pair alone says the opposite
        (8, 3): (True, True),
    }
    for thing in things:
        for pair in thing['overlaps']:
            assert pair['rule'] == 'preference'
            assert pair['segment'] == id_of[pair['detection']]
    json.dumps(things)
