import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET

from mmbanet.models.fusion import compose_panoptic_map
from mmbanet.models.fusion import panoptic_map as module

# Two things (0, 1) and three stuff classes (2, 3, 4); void is 5.
THINGS, STUFF, VOID = 2, 3, 5


def compose(owner, semantics, labels=(), stuff_area_limit=0, things=THINGS, stuff=STUFF):
    return compose_panoptic_map(
        torch.tensor(owner, dtype=torch.int32),
        torch.tensor(semantics, dtype=torch.int32),
        torch.tensor(labels, dtype=torch.int64),
        torch.linspace(0.75, 0.5, len(labels)),
        things,
        stuff,
        stuff_area_limit,
    )


def test_instances_overwrite_stuff_and_unowned_things_are_void():
    # 1 has no pixels and gets no id.
    result = compose([[2, -1, -1], [0, -1, -1]], [[2, 2, 0], [3, VOID, 1]], [1, 0, 0])
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
    result = compose(owner, [[2, 2, 2, 3], [3, 4, 4, 4]], [1], limit)
    expected[1][3] = 1 + INSTANCE_OFFSET
    assert result.mmdet_ids.tolist() == expected


def test_no_instances_and_nothing_else():
    result = compose([[-1, -1], [-1, -1]], [[2, 3], [2, VOID]], stuff_area_limit=2)
    assert result.mmdet_ids.tolist() == [[2, VOID], [2, VOID]]
    assert compose([[]], [[]]).segments == []


def many_things(count, labels, things, stuff):
    """One row: ``count`` objects of one pixel, then two pixels of the last stuff class."""
    owner = [[*range(count), -1, -1]]
    semantics = [[things + stuff - 1] * (count + 2)]
    return compose(owner, semantics, labels, 0, things, stuff)


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
    monkeypatch.setattr(module, 'MAX_SEGMENT_ID', 3)
    many_things(2, [0, 0], THINGS, STUFF)
    with pytest.raises(ValueError, match='4 segments, but there are only 3 ids'):
        many_things(3, [0, 0, 0], THINGS, STUFF)
