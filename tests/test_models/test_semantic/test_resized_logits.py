"""What is looked up in logits that are never resized, against PyTorch's resize of them all."""

import pytest
import torch

from mmbanet.models.semantic.logits import resize_logits, resized_logits
from mmbanet.models.semantic.resized_logits import ResizedLogits

from ...conftest import DEVICES

# Scales that are no integers, padding that is cut off, results smaller and larger than the input.
METAS = [
    dict(batch_input_shape=(96, 128), img_shape=(90, 117), ori_shape=(70, 93)),
    dict(batch_input_shape=(96, 128), img_shape=(61, 128), ori_shape=(133, 250)),
    dict(batch_input_shape=(96, 128), img_shape=(96, 128), ori_shape=(20, 31)),
]
WINDOWS = [
    (slice(0, 5), slice(3, 30)),
    (slice(11, 20), slice(0, 31)),
    (slice(4, 5), slice(30, 31)),
    (slice(7, 7), slice(2, 9)),
    (slice(20, 20), slice(31, 31)),
]


def random_logits(*shape, device='cpu', dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_as_resized_as_a_whole(device, rescale, dtype):
    logits = random_logits(len(METAS), 6, 24, 32, device=device, dtype=dtype)
    whole = resize_logits(logits.float(), METAS, rescale)
    for resized, expected in zip(resized_logits(logits, METAS, rescale, 'all'), whole):
        assert resized.shape == expected.shape
        for channel in range(6):
            channels = torch.full(expected.shape[1:], channel, device=device)
            torch.testing.assert_close(resized.at(channels), expected[channel])
            for window in WINDOWS:
                found = resized.window(channel, window)
                torch.testing.assert_close(found, expected[channel][window])
                assert torch.equal(found, resized.at(channels)[window])  # to the last bit
        channels = torch.randint(6, expected.shape[1:], device=device)
        mixed = expected.gather(0, channels[None])[0]
        torch.testing.assert_close(resized.at(channels), mixed)

        some = torch.tensor([1, 2, 5], device=device)
        best = expected[some].topk(2, dim=0)
        sure = best.values[0] - best.values[1] > 1e-4
        assert torch.equal(resized.argmax(some)[sure], some[best.indices[0]][sure])
        assert sure.float().mean() > 0.99


@pytest.mark.parametrize('size', [(1, 1), (3, 4), (1, 9), (7, 1), (6, 8)])
def test_logits_of_few_cells(size):
    logits = random_logits(2, 3, 4)
    for part in (logits, logits[:, :1], logits[:, :, :1], logits[:, :1, :1]):
        resized = ResizedLogits.to_size(part, size, 'all')
        expected = torch.nn.functional.interpolate(part[None], size=size, mode='bilinear')[0]
        for channel in range(2):
            torch.testing.assert_close(
                resized.at(torch.full(size, channel)), expected[channel], rtol=1e-5, atol=1e-6
            )
