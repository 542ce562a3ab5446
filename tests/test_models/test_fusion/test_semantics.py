import pytest
import torch
import torch.nn.functional as F

from mmbanet.models.fusion import semantic_labels

from ...conftest import DEVICES

# Two things (0, 1) and three stuff classes (2, 3, 4); void is 5.
VOID = 5


def one_hot(labels, channels):
    return F.one_hot(torch.tensor(labels), channels).permute(2, 0, 1).float()


def labels_of(prediction, layout='auto', size=None):
    size = prediction.shape[-2:] if size is None else size
    return semantic_labels(prediction, size, 2, 3, layout).tolist()


def test_logits_of_all_classes():
    logits = one_hot([[0, 1], [2, 4]], 5)
    assert labels_of(logits) == labels_of(logits, 'all') == [[0, 1], [2, 4]]


def test_logits_of_stuff_and_one_channel_of_things():
    logits = one_hot([[0, 1], [2, 3]], 4)
    assert labels_of(logits) == labels_of(logits, 'stuff_and_things') == [[2, 3], [4, VOID]]


def test_the_first_of_equal_logits_wins():
    assert labels_of(torch.zeros(5, 1, 2)) == [[0, 0]]
    assert labels_of(torch.zeros(4, 1, 2)) == [[2, 2]]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('size', [(37, 50), (8, 12), (5, 7), (8, 30)])
def test_logits_of_another_resolution_are_resized_to_the_masks(device, size):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 8, 12, generator=generator).to(device)
    result = semantic_labels(logits, size, 2, 3)
    resized = F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)[0]
    assert result.dtype == torch.int32
    # Rounding may turn pixels at which two classes are equal; nothing else.
    chosen = resized.gather(0, result[None].long())[0]
    torch.testing.assert_close(chosen, resized.amax(dim=0), rtol=0, atol=1e-5)


def test_labels_pass_as_they_are():
    labels = torch.tensor([[0, 4, VOID]])
    for prediction in (labels, labels[None], labels.to(torch.uint8), labels.int()):
        result = semantic_labels(prediction, (1, 3), 2, 3)
        assert result.tolist() == [[0, 4, VOID]]
        assert result.dtype == torch.int32


@pytest.mark.parametrize(
    ('channels', 'layout', 'message'),
    [
        (
            3,
            'auto',
            r'4 \(stuff_and_things\) or 5 \(all\) channels for 2 thing and 3 stuff .*got 3',
        ),
        (4, 'all', r'5 \(all\) channels .*got 4'),
        (5, 'stuff_and_things', r'4 \(stuff_and_things\) channels .*got 5'),
    ],
)
def test_other_numbers_of_channels_are_refused(channels, layout, message):
    with pytest.raises(ValueError, match=message):
        labels_of(torch.zeros(channels, 1, 1), layout)


def test_other_shapes_and_labels_are_refused():
    with pytest.raises(ValueError, match=r'logits must have shape \(C, h, w\), got \(2, 2\)'):
        labels_of(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r'logits must have shape .*got \(5, 0, 2\)'):
        labels_of(torch.zeros(5, 0, 2), size=(2, 2))
    with pytest.raises(ValueError, match=r'resolution of the masks \(2, 2\), got \(2, 3\)'):
        labels_of(torch.zeros(2, 3).long(), size=(2, 2))
    with pytest.raises(ValueError, match=r'in 0\.\.5 \(5: void\), got values from 0 to 255'):
        labels_of(torch.tensor([[0, 255]]))
