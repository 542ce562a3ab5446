"""Same bits: over repeats, orders of RoIs, layouts and threads."""

import pytest
import torch

from mmbanet.ops import roi_inlay

from .samples import random_case


def forward_and_backward(operator, case):
    input = case['input'].detach().requires_grad_()
    output = operator(**{**case, 'input': input})
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    (gradient,) = torch.autograd.grad(output, input, weights)
    return output.detach(), gradient


def assert_same_bits(operator, case, other_case):
    for tensor, other in zip(
        forward_and_backward(operator, case), forward_and_backward(operator, other_case)
    ):
        assert torch.equal(tensor, other)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_repeats(dtype, device):
    case = random_case(7, dtype, device)
    expected = forward_and_backward(roi_inlay, case)
    for _ in range(50):
        for tensor, other in zip(expected, forward_and_backward(roi_inlay, case)):
            assert torch.equal(tensor, other)


def test_threads(operator):
    case = random_case(8)
    threads = torch.get_num_threads()
    expected = forward_and_backward(operator, case)
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        other = forward_and_backward(operator, case)
    finally:
        torch.set_num_threads(threads)
    for tensor, other_tensor in zip(expected, other):
        assert torch.equal(tensor, other_tensor)


@pytest.mark.parametrize('seed', range(20))
def test_order_of_rois(seed, operator):
    """On the CPU; several RoIs of these cases have one and the same box."""
    case = random_case(seed)
    order = torch.randperm(len(case['rois']), generator=torch.Generator().manual_seed(seed))
    shuffled = {**case, 'input': case['input'][order], 'rois': case['rois'][order]}
    output, gradient = forward_and_backward(operator, case)
    shuffled_output, shuffled_gradient = forward_and_backward(operator, shuffled)
    assert torch.equal(output, shuffled_output)
    assert torch.equal(gradient[order], shuffled_gradient)


def test_layouts(operator, device):
    case = random_case(9, device=device)
    crops, rois = case['input'], case['rois']
    channels_last = crops.to(memory_format=torch.channels_last)
    strided = torch.stack([crops, crops + 1], dim=-1)[..., 0]
    transposed = crops.transpose(2, 3).contiguous().transpose(2, 3)
    padded_rois = torch.cat([rois, rois], dim=1)[:, :5]
    for input in (channels_last, strided, transposed):
        assert_same_bits(operator, case, {**case, 'input': input, 'rois': padded_rois})
