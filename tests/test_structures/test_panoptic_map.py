import numpy as np
import pytest
import torch
from mmdet.evaluation import functional

from mmbanet.structures import INSTANCE_OFFSET, decode_ids, encode_ids


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
