"""A panoptic map, and mmdet's ids of its segments, which are made and read here alone.

An id is ``label + instance * INSTANCE_OFFSET``: the instance of a thing counts from 1, that of
stuff and void is 0. The label of void is the number of classes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from torch import Tensor

# As mmdet.evaluation.functional has it, which a package of plain data does not import.
INSTANCE_OFFSET = 1000
# COCO writes segment ids into the 24 bits of an RGB pixel; 0 is void.
MAX_SEGMENT_ID = 2**24 - 1
# The same limit for the instances of mmdet's ids.
MAX_INSTANCE = MAX_SEGMENT_ID // INSTANCE_OFFSET - 1

Ids = TypeVar('Ids', int, Tensor, np.ndarray)


class PanopticMap(NamedTuple):
    """A panoptic map with its segments.

    Attributes:
        segment_ids: (H, W) int32, ids of ``segments``, 0 for void.
        mmdet_ids: (H, W) int32, mmdet's ids. None where they cannot tell all
            segments apart in 24 bits.
        segments: ``id`` from 1, ``category`` (label), ``is_thing``, ``score`` (None
            for stuff) and ``area`` (pixels): things in the order of the objects, then stuff.
        objects: The object of each thing of ``segments``.
    """

    segment_ids: Tensor
    mmdet_ids: Tensor | None
    segments: list[dict]
    objects: list[int]


def encode_ids(labels: Ids, instances: Ids) -> Ids:
    """Ids in mmdet's encoding, of labels and instances."""
    return labels + instances * INSTANCE_OFFSET


def decode_ids(ids: Ids) -> tuple[Ids, Ids]:
    """Labels and instances of ids in mmdet's encoding."""
    return ids % INSTANCE_OFFSET, ids // INSTANCE_OFFSET


def index_segments(id_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of a map (H, W), ascending (S,), and for each pixel which one it has, (H, W) int64.

    As ``np.unique`` with ``return_inverse``, which sorts pixels where this sorts runs of them.
    """
    flat = id_map.ravel()
    is_start = np.ones(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=is_start[1:])
    starts = is_start.nonzero()[0]
    ids, places = np.unique(flat[starts], return_inverse=True)
    lengths = np.diff(starts, append=flat.size)
    return ids, np.repeat(places, lengths).reshape(id_map.shape)
