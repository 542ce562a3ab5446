import pytest
import torch
from mmdet.structures import INSTANCE_OFFSET

from mmbanet.models.fusion import compose_panoptic_map, stuff_labels

# Two things (0, 1) and three stuff classes (2, 3, 4); void is 5.
VOID = 5


def one_hot(labels, channels):
    labels = torch.tensor(labels)
    return torch.nn.functional.one_hot(labels, channels).permute(2, 0, 1).float()


def test_all_classes_things_are_void():
    logits = one_hot([[0, 1], [2, 4]], 5)
    assert stuff_labels(logits, 2, 3, 'auto').tolist() == [[VOID, VOID], [2, 4]]
    assert stuff_labels(logits, 2, 3, 'all').tolist() == [[VOID, VOID], [2, 4]]


def test_stuff_and_one_channel_of_things():
    logits = one_hot([[0, 1], [2, 3]], 4)
    assert stuff_labels(logits, 2, 3, 'auto').tolist() == [[2, 3], [4, VOID]]


def test_the_first_of_equal_logits_wins():
    assert stuff_labels(torch.zeros(5, 1, 2), 2, 3, 'auto').tolist() == [[VOID, VOID]]
    assert stuff_labels(torch.zeros(4, 1, 2), 2, 3, 'auto').tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ('channels', 'layout', 'message'),
    [
        (3, 'auto', r'5 \(all\) or 4 \(stuff_and_things\) channels for 2 thing and 3 stuff'),
        (4, 'all', r'5 \(all\) channels .*got \(4, 1, 1\)'),
        (5, 'stuff_and_things', r'4 \(stuff_and_things\) channels .*got \(5, 1, 1\)'),
    ],
)
def test_other_numbers_of_channels_are_refused(channels, layout, message):
    with pytest.raises(ValueError, match=message):
        stuff_labels(torch.zeros(channels, 1, 1), 2, 3, layout)


def test_instances_overwrite_stuff():
    owner = torch.tensor([[2, -1], [0, -1]])
    stuff = torch.tensor([[2, 2], [3, VOID]])
    labels = torch.tensor([1, 0, 0])
    # 1 has no pixels and gets no id.
    expected = [[2 * INSTANCE_OFFSET, 2], [1 + INSTANCE_OFFSET, VOID]]
    assert compose_panoptic_map(owner, labels, stuff, VOID, 0).tolist() == expected


def test_small_stuff_is_void_and_counts_what_is_visible():
    stuff = torch.tensor([[2, 2, 2, 3], [3, 4, 4, 4]])
    owner = torch.tensor([[-1, -1, -1, -1], [-1, -1, -1, 0]])
    labels = torch.tensor([1])
    thing = 1 + INSTANCE_OFFSET
    for limit, expected in (
        (2, [[2, 2, 2, 3], [3, 4, 4, thing]]),
        (3, [[2, 2, 2, VOID], [VOID, VOID, VOID, thing]]),
        (4, [[VOID] * 4, [VOID, VOID, VOID, thing]]),
    ):
        assert compose_panoptic_map(owner, labels, stuff, VOID, limit).tolist() == expected


def test_no_instances_and_nothing_else():
    owner = torch.full((2, 2), -1)
    stuff = torch.tensor([[2, 3], [2, VOID]])
    labels = torch.zeros(0, dtype=torch.long)
    assert compose_panoptic_map(owner, labels, stuff, VOID, 2).tolist() == [[2, VOID], [2, VOID]]
