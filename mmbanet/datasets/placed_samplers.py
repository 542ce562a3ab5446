"""Data whose order and augmentations depend on the seed and the place alone.

A training that goes on after an interruption sees what it would have seen without: nothing depends
on how often it was started, on the workers, or on what they had loaded ahead.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from functools import lru_cache
from itertools import count, islice

import numpy as np
import torch
from mmdet.datasets.samplers import AspectRatioBatchSampler
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmbanet.registry import DATA_SAMPLERS


class Place(int):
    """An index into a data set that knows the seed of the sample's augmentations.

    It stays one in MMEngine's ``ConcatDataset`` and ``RepeatDataset``.
    """

    def __new__(cls, index: int, seed: int) -> Place:  # noqa: D102
        place = super().__new__(cls, index)
        place.seed = seed
        return place

    def __getnewargs__(self) -> tuple[int, int]:
        return int(self), self.seed

    def __sub__(self, other: int) -> Place:
        return Place(int(self) - other, self.seed)

    def __mod__(self, other: int) -> Place:
        return Place(int(self) % other, self.seed)


@contextmanager
def randomness_of(index: int) -> Iterator[None]:
    """The random numbers of a sample: of its place, if it has one, without a trace afterwards."""
    if not isinstance(index, Place):
        yield
        return
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(index.seed)
    np.random.seed(index.seed)
    torch.random.default_generator.manual_seed(index.seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


@DATA_SAMPLERS.register_module()
class PlacedSampler(Sampler):
    """MMEngine's ``InfiniteSampler`` or ``DefaultSampler``, of which any place is known.

    Indices are :class:`Place`; what is drawn for the k-th of all ranks depends on the seed and k.

    Args:
        dataset: What is sampled.
        shuffle: Whether every round through the data set has another order.
        seed: None: a random one, the same on all ranks.
        infinite: For loops that count iterations; else an iteration ends with the epoch, which
            MMEngine's ``DistSamplerSeedHook`` sets, and ranks have the same number of samples.
    """

    def __init__(
        self, dataset: Sized, shuffle: bool = True, seed: int | None = None, infinite: bool = True
    ) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.infinite = infinite
        self.rank, self.ranks = get_dist_info()
        self._epoch = self._skipped = 0
        self._order = lru_cache(maxsize=1)(self._drawn_order)

    def __len__(self) -> int:
        """Samples of an epoch, and of one rank where an epoch ends."""
        return len(self.dataset) if self.infinite else self._round() // self.ranks

    def __iter__(self) -> Iterator[Place]:
        length = self._round()
        start = self._epoch * length + self.rank
        first, end = start + self._skipped * self.ranks, start + length
        places = count(first, self.ranks) if self.infinite else range(first, end, self.ranks)
        for place in places:
            epoch, offset = divmod(place, length)
            seed = np.random.SeedSequence([self.seed, place]).generate_state(1)
            yield Place(self._order(epoch)[offset % len(self.dataset)], int(seed[0]))

    def skip(self, num_samples: int) -> None:
        """Lets the next iteration begin behind that many samples of this rank."""
        self._skipped = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Where iterations end with the epoch: the next one's."""
        self._epoch = 0 if self.infinite else epoch

    def _round(self) -> int:
        """Places in one round through the data set; each rank has as many where it ends."""
        size = len(self.dataset)
        return size if self.infinite else -(-size // self.ranks) * self.ranks

    def _drawn_order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(len(self.dataset)))
        generator = np.random.default_rng([self.seed, epoch])
        return generator.permutation(len(self.dataset)).tolist()


@DATA_SAMPLERS.register_module()
class PlacedAspectRatioBatchSampler(AspectRatioBatchSampler):
    """mmdet's, which can begin behind batches: it sorts their images, but loads none."""

    _skipped = 0

    def skip(self, num_batches: int) -> None:
        """Lets the next iteration begin behind that many batches."""
        self._skipped = num_batches

    def __iter__(self) -> Iterator[list[Place]]:
        return islice(super().__iter__(), self._skipped, None)
