"""The order of data and its augmentations, from any place on."""

import pickle
import random
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch.utils.data import DataLoader

from mmbanet.datasets import PlacedAspectRatioBatchSampler, PlacedSampler, placed_samplers
from mmbanet.datasets.placed_samplers import Place, randomness_of


class Numbers(BaseDataset):
    """Indices with what was drawn for each."""

    def load_data_list(self):
        return [dict(width=4, height=3 + index % 3) for index in range(7)]

    def __getitem__(self, index):
        with randomness_of(index):
            return int(index), random.random(), np.random.rand(), torch.rand(()).item()


def first(sampler, number):
    return [(int(place), place.seed) for place in islice(sampler, number)]


def test_any_place_without_what_was_before():
    whole = first(PlacedSampler(Numbers(), seed=1), 40)
    for skipped in (0, 1, 7, 20):
        sampler = PlacedSampler(Numbers(), seed=1)
        sampler.skip(skipped)
        assert first(sampler, 40 - skipped) == whole[skipped:]
    assert first(PlacedSampler(Numbers(), seed=2), 40) != whole


def test_every_round_has_each_once_in_another_order():
    indices, seeds = zip(*first(PlacedSampler(Numbers(), seed=0), 35))
    rounds = [indices[i : i + 7] for i in range(0, 35, 7)]
    assert all(sorted(order) == list(range(7)) for order in rounds)
    assert len(set(rounds)) == 5
    assert len(set(seeds)) == 35
    plain = first(PlacedSampler(Numbers(), seed=0, shuffle=False), 9)
    assert [index for index, _ in plain] == [0, 1, 2, 3, 4, 5, 6, 0, 1]


@pytest.mark.parametrize('infinite', [True, False])
def test_ranks_share_the_places(infinite, monkeypatch):
    def sampler(rank, ranks):
        monkeypatch.setattr(placed_samplers, 'get_dist_info', lambda: (rank, ranks))
        made = PlacedSampler(Numbers(), seed=3, infinite=infinite)
        made.set_epoch(2)
        return made

    ranks = [first(sampler(rank, 2), 4) for rank in range(2)]
    together = [place for pair in zip(*ranks) for place in pair]
    if infinite:
        assert together == first(sampler(0, 1), 8)
    else:
        assert len(sampler(0, 2)) == 4
        assert len(list(sampler(1, 2))) == 4
        indices = [index for index, _ in together]
        assert sorted(indices[:7]) == list(range(7))
        assert indices[7] == indices[0]


def test_epochs():
    sampler = PlacedSampler(Numbers(), seed=0, infinite=False)
    assert len(sampler) == len(list(sampler)) == 7
    epoch = first(sampler, 9)
    sampler.set_epoch(1)
    assert first(sampler, 9) != epoch
    sampler.set_epoch(0)
    assert first(sampler, 9) == epoch


def test_a_place_stays_one():
    place = pickle.loads(pickle.dumps(Place(9, 5)))
    assert (place, place.seed) == (9, 5)
    drawn = Numbers()[Place(2, 5)][1:]
    for wrapper in (
        ConcatDataset([Numbers(), Numbers()]),
        RepeatDataset(Numbers(), times=2),
    ):
        assert wrapper[Place(9, 5)][1:] == drawn


def test_random_numbers_are_those_of_the_place_and_leave_no_trace():
    random.seed(0)
    expected = random.random(), np.random.rand(), torch.rand(())
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    place = Place(3, 17)
    assert Numbers()[place] == Numbers()[place] != Numbers()[Place(3, 18)]
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_see_the_same(workers):
    def batches(skipped):
        sampler = PlacedSampler(Numbers(), seed=4)
        sampler.skip(2 * skipped)
        loader = DataLoader(
            Numbers(), batch_size=2, sampler=sampler, num_workers=workers, collate_fn=list
        )
        return list(islice(loader, 6 - skipped))

    whole = batches(0)
    assert whole == [[Numbers()[p] for p in pair] for pair in pairs_of(4)]
    assert batches(3) == whole[3:]


def pairs_of(seed):
    places = list(islice(PlacedSampler(Numbers(), seed=seed), 12))
    return zip(places[::2], places[1::2])


def test_batches_of_one_shape_from_any_on():
    def sampler():
        return PlacedAspectRatioBatchSampler(PlacedSampler(Numbers(), seed=5), batch_size=2)

    whole = list(islice(sampler(), 12))
    upright = [{3 + index % 3 > 4 for index in batch} for batch in whole]
    assert all(len(shapes) == 1 for shapes in upright)
    later = sampler()
    later.skip(5)
    assert list(islice(later, 7)) == whole[5:]


def test_a_loop_goes_on_without_loading_what_was_before():
    from mmbanet.engine.placed_training import _Batches

    loaded = []

    class Counted(Numbers):
        def __getitem__(self, index):
            loaded.append(int(index))
            return super().__getitem__(index)

    data = Counted()
    batch_sampler = PlacedAspectRatioBatchSampler(PlacedSampler(data, seed=5), batch_size=2)
    batches = _Batches(DataLoader(data, batch_sampler=batch_sampler, collate_fn=list))
    batches.skip_iter(5)
    next(batches)
    expected = PlacedAspectRatioBatchSampler(PlacedSampler(data, seed=5), batch_size=2)
    assert loaded == next(islice(expected, 5, None))


def test_seeds_of_an_iteration():
    from mmbanet.engine import PlaceSeedHook

    def drawn(iteration):
        runner = SimpleNamespace(seed=1, iter=iteration)
        PlaceSeedHook().before_train_iter(runner, 0)
        return random.random(), np.random.rand(), torch.rand(()).item()

    assert drawn(3) == drawn(3)
    assert all(a != b for a, b in zip(drawn(3), drawn(4)))
