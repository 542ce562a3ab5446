"""Deformable convolution on the CPU, against mmcv's operator and an ordinary convolution."""

import pytest
import torch
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmcv.ops import DeformConv2dPack as Reference

from mmbanet.models import DeformConv2dPack, deform_conv

from ..conftest import DEVICES

SETTINGS = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=(3, 1), padding=(1, 0), stride=(1, 2)),
    dict(kernel_size=3, padding=2, dilation=2, deform_groups=2),
    dict(kernel_size=5, padding=(0, 3), groups=2, deform_groups=4),
]


def moved(conv):
    """The layer with offsets of up to several pixels, also beyond the map."""
    torch.nn.init.normal_(conv.conv_offset.weight, 0, 0.3)
    torch.nn.init.normal_(conv.conv_offset.bias, 0, 2)
    return conv


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
@pytest.mark.parametrize('device', DEVICES)
def test_equals_mmcv(settings, device):
    ours = moved(DeformConv2dPack(8, 6, **settings))
    theirs = Reference(8, 6, **settings)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 8, 13, 11)
    results = []
    for conv, where in ((ours, device), (theirs, 'cpu')):
        inputs = x.detach().to(where).requires_grad_()
        output = conv.to(where)(inputs)
        output.backward(torch.linspace(-1, 1, output.numel(), device=where).view_as(output))
        grads = [inputs.grad, *(parameter.grad for parameter in conv.parameters())]
        results.append([tensor.cpu() for tensor in (output, *grads)])
    for ours, theirs in zip(*results):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize('size', [(1, 1), (2, 5), (7, 8)])
def test_without_offsets_it_is_an_ordinary_convolution(size):
    conv = build_conv_layer(
        dict(type='mmbanet.DeformConv2dPack', deform_groups=1), 4, 6, 3, padding=1, bias=False
    )
    x = torch.randn(2, 4, *size)  # maps smaller than the kernel, too
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, padding=1))


@pytest.mark.parametrize('device', DEVICES)
def test_bias(device):
    conv = moved(DeformConv2dPack(4, 6, 3, padding=1, bias=True)).to(device)
    without = DeformConv2dPack(4, 6, 3, padding=1).to(device)
    without.load_state_dict({k: v for k, v in conv.state_dict().items() if k != 'bias'})
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 4, 5, 7, device=device)
    torch.testing.assert_close(conv(x) - without(x), conv.bias[:, None, None].expand(2, 6, 5, 7))


def test_gradients_of_double_precision():
    conv = moved(DeformConv2dPack(2, 2, 3, padding=1)).double()
    x = torch.randn(1, 2, 4, 5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(conv, x)


def test_autocast_keeps_the_points_exact():
    conv = moved(DeformConv2dPack(8, 6, 3, padding=1))
    x = torch.randn(2, 8, 12, 12)
    expected = conv(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    # Offsets come from a convolution in half precision; the rest is rounded once.
    error = (found.float() - expected).abs().mean() / expected.abs().mean()
    assert 0 < error < 0.05


def test_no_images():
    conv = DeformConv2dPack(4, 6, 3, padding=1)
    x = torch.zeros(0, 4, 5, 7, requires_grad=True)
    output = conv(x)
    output.sum().backward()
    assert output.shape == (0, 6, 5, 7)
    assert x.grad.shape == x.shape


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_few_positions_at_a_time_without_gradients(settings, monkeypatch):
    monkeypatch.setattr(deform_conv, 'POSITIONS_AT_A_TIME', 7)  # cuts images, and spans two
    conv = moved(DeformConv2dPack(8, 6, **settings))
    x = torch.randn(3, 8, 13, 11)
    with torch.no_grad():
        output = conv(x)
    torch.testing.assert_close(output, conv(x).detach())


@pytest.mark.parametrize('offset', [torch.nan, torch.inf, -1e30])
def test_offsets_out_of_all_bounds(offset):
    conv = DeformConv2dPack(4, 6, 3, padding=1)
    torch.nn.init.constant_(conv.conv_offset.bias, offset)
    output = conv(torch.randn(1, 4, 5, 7))
    finite = offset == -1e30
    expected = torch.full_like(output, 0 if finite else torch.nan)
    torch.testing.assert_close(output, expected, equal_nan=True)


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_channels_last(settings):
    conv = moved(DeformConv2dPack(8, 6, **settings))
    x = torch.randn(3, 8, 13, 11)
    results = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        conv.zero_grad()
        inputs = x.detach().to(memory_format=memory_format).requires_grad_()
        output = conv.to(memory_format=memory_format)(inputs)
        output.square().sum().backward()
        results.append([output, inputs.grad, *(parameter.grad for parameter in conv.parameters())])
    for found, expected in zip(*results[::-1]):
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
        )
