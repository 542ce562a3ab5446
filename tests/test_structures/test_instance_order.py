"""Order from instance masks and a panoptic map, against grids by hand and a loop over pairs."""

import numpy as np
import pytest

from mmbanet.structures import instance_order, instance_owner


def strip(*spans: tuple[int, int], width: int = 20) -> np.ndarray:
    """Masks (K, 1, W) that are runs of a row."""
    masks = np.zeros((len(spans), 1, width), dtype=bool)
    for mask, (start, stop) in zip(masks, spans):
        mask[0, start:stop] = True
    return masks


@pytest.mark.parametrize(
    ('owned_by_first', 'owned_by_second', 'expected'),
    [(6, 0, 1), (0, 6, -1), (4, 2, 1), (2, 4, -1), (3, 3, 0), (4, 0, 1), (3, 0, 0), (0, 0, 0)],
)
def test_who_clearly_owns_the_overlap_is_in_front(owned_by_first, owned_by_second, expected):
    masks = strip((0, 12), (6, 18))  # share 6..12
    owner = np.full((1, 20), -1)
    owner[0, :6], owner[0, 12:18] = 0, 1  # outside of the overlap: says nothing
    owner[0, 6 : 6 + owned_by_first] = 0
    owner[0, 12 - owned_by_second : 12] = 1
    order = instance_order(masks, owner)
    assert order.dtype == np.int8
    assert order.tolist() == [[0, expected], [-expected, 0]]


def test_more_than_the_threshold_of_either():
    masks = strip((0, 10), (8, 18))  # 2 of 10: not more than 20%
    owner = np.zeros((1, 20), dtype=np.int32)
    assert not instance_order(masks, owner).any()
    assert instance_order(masks, owner, overlap_thr=0.19)[0, 1] == 1
    tie = strip((0, 20), (4, 6))  # a tenth of one, all of the other
    owner[0, 4:6] = 1
    assert instance_order(tie, owner).tolist() == [[0, -1], [1, 0]]


def test_like_a_loop_over_pairs_and_pixels():
    rng = np.random.default_rng(0)
    known = 0
    for _ in range(20):
        masks = np.zeros((6, 12, 14), dtype=bool)
        for mask in masks:
            y, x = rng.integers(0, 8, size=2)
            mask[y : y + rng.integers(0, 9), x : x + rng.integers(0, 9)] = True
        shown = rng.permutation(6)
        owner = np.full((12, 14), -1)
        for k in shown[::-1]:
            owner[masks[k] & (rng.random((12, 14)) < 0.8)] = k
        expected = np.zeros((6, 6), dtype=int)
        for i in range(6):
            for j in range(6):
                both = masks[i] & masks[j]
                least = min(masks[i].sum(), masks[j].sum())
                if i == j or both.sum() <= 0.2 * least:
                    continue
                mine, others = (owner[both] == i).sum(), (owner[both] == j).sum()
                if mine > both.sum() / 2 and mine >= 2 * others:
                    expected[i, j], expected[j, i] = 1, -1
        order = instance_order(masks, owner)
        assert (order == expected).all()
        known += np.count_nonzero(order > 0)
    assert known > 30


@pytest.mark.parametrize('count', [0, 1])
def test_no_pair(count):
    masks = np.ones((count, 2, 3), dtype=bool)
    assert instance_order(masks, np.zeros((2, 3), dtype=int)).shape == (count, count)
    assert not instance_order(masks, np.zeros((2, 3), dtype=int)).any()


def test_segments_find_their_instances():
    # Two of a class: the rear one's segment lies in the front's mask less than in its own.
    masks = strip((0, 12), (6, 18), (6, 18))
    labels = np.array([0, 0, 1])
    ids = np.zeros((1, 20), dtype=np.int32)
    ids[0, 0:12], ids[0, 12:18] = 7, 9
    owner = instance_owner(masks, labels, ids, {7: 0, 9: 0})
    assert owner[0].tolist() == [0] * 12 + [1] * 6 + [-1] * 2
    assert instance_order(masks[:2], owner).tolist() == [[0, 1], [-1, 0]]
    # Of another class, not listed (stuff), or mostly outside of every mask: nobody's.
    assert (instance_owner(masks[:1], labels[:1], ids, {7: 1}) == -1).all()
    assert (instance_owner(masks[:1], labels[:1], ids, {}) == -1).all()
    assert (instance_owner(strip((0, 5)), labels[:1], ids, {7: 0}) == -1).all()


def test_one_instance_has_one_segment():
    ids = np.array([[1] * 8 + [2] * 2], dtype=np.int32)
    masks = np.ones((2, 1, 10), dtype=bool)
    masks[1, :, :5] = False
    owner = instance_owner(masks, np.array([3, 3]), ids, {1: 3, 2: 3})
    assert owner[0].tolist() == [0] * 8 + [1] * 2


MASKS, MAP = np.zeros((2, 3, 4), dtype=bool), np.zeros((3, 4), dtype=int)


@pytest.mark.parametrize(
    ('masks', 'owner', 'thr', 'error', 'message'),
    [
        (MASKS.astype(int), MAP, 0.2, TypeError, 'masks must be an array of bool, got int64'),
        (MASKS[0], MAP, 0.2, ValueError, r'masks must have the shape \(K, H, W\), got \(3, 4\)'),
        (MASKS, MAP.astype(float), 0.2, TypeError, 'the map must be .* integers, got float64'),
        (MASKS, MAP[:2], 0.2, ValueError, r'size of the masks, \(3, 4\), got \(2, 4\)'),
        (MASKS, MAP, 2, ValueError, 'overlap_thr must be a share in 0..1, got 2'),
    ],
)
def test_mistakes_are_named(masks, owner, thr, error, message):
    with pytest.raises(error, match=message):
        instance_order(masks, owner, thr)


def test_labels_are_one_a_mask():
    with pytest.raises(ValueError, match=r'labels must be \(2,\), one a mask, got \(1,\)'):
        instance_owner(MASKS, np.zeros(1, dtype=int), MAP, {})
