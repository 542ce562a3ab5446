"""The simulated mask head does to masks what it says, and no more."""

import numpy as np
import pytest

from mmbanet.scenes.photographs.mask_head import SimulatedMaskHead

EXACT = SimulatedMaskHead(jitter=0, blur=0, noise=0)


def disc(size=160, radius=50):
    rows, columns = np.mgrid[:size, :size]
    return (rows - 70) ** 2 + (columns - 80) ** 2 <= radius**2


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def box(mask):
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_without_errors_only_the_cells_are_left():
    mask = disc()
    predicted = EXACT.predict(mask, np.random.default_rng(0))
    assert iou(mask, predicted) > 0.98
    assert not np.array_equal(mask, predicted)
    # A mask that is made of whole cells comes back as it is.
    squares = np.zeros((100, 100), bool)
    squares[10:66, 20:76] = np.kron(np.tri(14, dtype=bool), np.ones((4, 4), bool))
    squares = np.ascontiguousarray(squares)
    fine = SimulatedMaskHead(jitter=0, size=56, blur=0, noise=0)
    np.testing.assert_array_equal(fine.predict(squares, np.random.default_rng(0)), squares)


def test_jitter_cuts_masks_off_and_does_not_move_them():
    mask = np.zeros((200, 200), bool)
    mask[50:150, 40:120] = True
    head = EXACT._replace(jitter=0.1)
    moves = []
    for seed in range(300):
        predicted = head.predict(mask, np.random.default_rng(seed))
        x1, y1, x2, y2 = box(predicted)
        # Outside of the object the head sees none, wherever its box is; a cell is 4 pixels.
        assert min(x1 - 38, y1 - 48, 122 - x2, 152 - y2) >= 0
        moves.append([(x1 - 40) / 80, (y1 - 50) / 100, (120 - x2) / 80, (150 - y2) / 100])
    # Half of the sides are moved inwards; of a normal distribution the mean of these is this.
    inwards = np.clip(moves, 0, None).mean(axis=0)
    np.testing.assert_allclose(inwards, 0.1 / np.sqrt(2 * np.pi), rtol=0.25)


@pytest.mark.parametrize('change', [dict(blur=4), dict(noise=0.4), dict(size=6), dict(jitter=0.2)])
def test_each_error_makes_masks_worse(change):
    mask = disc()
    mask[60:80, 80:] = False  # a notch, which blur closes

    def quality(head):
        masks = [head.predict(mask, np.random.default_rng(seed)) for seed in range(20)]
        return np.mean([iou(mask, predicted) for predicted in masks])

    assert quality(EXACT._replace(**change)) < quality(EXACT) - 0.02


def test_the_same_for_a_seed_and_another_for_another():
    head, mask = SimulatedMaskHead(), disc()
    first, again, other = (head.predict(mask, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert 0.8 < iou(mask, first) < 1


@pytest.mark.parametrize('pixels', [0, 1, 2])
def test_hardly_anything_to_see(pixels):
    mask = np.zeros((9, 11), bool)
    mask[4, 5 : 5 + pixels] = True
    for seed in range(20):
        predicted = SimulatedMaskHead(jitter=2).predict(mask, np.random.default_rng(seed))
        assert predicted.shape == mask.shape
        assert predicted.dtype == bool
        assert pixels or not predicted.any()
