import numpy as np
import pytest
import torch
from mmdet.evaluation import functional

from mmbanet.structures import INSTANCE_OFFSET, decode_ids, encode_ids, index_segments


def test_the_offset_is_mmdets():
    assert INSTANCE_OFFSET == functional.INSTANCE_OFFSET


@pytest.mark.parametrize('kind', [torch.tensor, np.array])
def test_ids_say_label_and_instance(kind):
    labels, instances = kind([0, 7, 7, 999]), kind([1, 0, 12, 16_776])
    ids = encode_ids(labels, instances)
    assert ids.tolist() == [1000, 7, 12_007, 16_776_999]
    found = decode_ids(ids)
    assert [part.tolist() for part in found] == [labels.tolist(), instances.tolist()]
    assert decode_ids(encode_ids(7, 12)) == (7, 12)


@pytest.mark.parametrize('size', [(1, 1), (6, 9), (0, 3)])
def test_segments_are_indexed_as_by_numpy(size):
    id_map = np.random.default_rng(0).choice(np.array([7, -1, 2**24]), size)
    ids, places = index_segments(id_map)
    expected, inverse = np.unique(id_map, return_inverse=True)
    assert (ids == expected).all()
    assert (places == inverse.reshape(size)).all()
    assert places.shape == size
    assert (index_segments(id_map.T)[1] == places.T).all()
