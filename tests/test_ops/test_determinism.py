"""Same bits: over repeats, threads, orders of RoIs and layouts."""

import itertools

import pytest
import torch

from mmbanet.ops import roi_inlay

from .samples import DTYPES, LAYOUTS, crowded_case, random_case, small_case


def forward_and_backward(operator, case, layout='contiguous'):
    """Output and gradient of the input; input and gradient of the output have that layout."""
    input = LAYOUTS[layout](case['input']).requires_grad_()
    output = operator(**{**case, 'input': input})
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    (gradient,) = torch.autograd.grad(output, input, LAYOUTS[layout](weights))
    return output.detach(), gradient


def same_bits(tensors, others):
    """Unlike torch.equal, 0 and -0 differ."""
    return all(
        torch.equal(tensor.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
        for tensor, other in zip(tensors, others, strict=True)
    )


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(max(2, threads))
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def deterministic_operator(operator, device):
    """RoIUpsample sums with atomics on CUDA."""
    if device == 'cuda' and operator is not roi_inlay:
        pytest.skip('not deterministic on CUDA')
    return operator


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures('two_threads')
def test_many_repeats(dtype, deterministic_operator, device):
    case = crowded_case(dtype, device)
    expected = forward_and_backward(deterministic_operator, case)
    for repeat in range(100 if device == 'cpu' else 1000):
        assert same_bits(forward_and_backward(deterministic_operator, case), expected), repeat


@pytest.mark.parametrize('dtype', DTYPES)
def test_threads(dtype, operator):
    case = crowded_case(dtype)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            results.append(forward_and_backward(operator, case))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert same_bits(result, results[0])


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
def test_order_of_rois(dtype, layout, operator):
    """On the CPU; several RoIs of these cases have one and the same box."""
    for case in (crowded_case(dtype), *(random_case(seed, dtype) for seed in range(20))):
        order = torch.randperm(len(case['rois']), generator=torch.Generator().manual_seed(0))
        shuffled = {**case, 'input': case['input'][order], 'rois': case['rois'][order]}
        output, gradient = forward_and_backward(operator, case, layout)
        expected = output, gradient[order]
        assert same_bits(forward_and_backward(operator, shuffled, layout), expected)


def test_order_of_a_plain_sum(operator):
    """The control: adding up RoI after RoI gives other bits in another order."""
    case = crowded_case()
    maps = [
        operator(**{**case, 'input': case['input'][k : k + 1], 'rois': case['rois'][k : k + 1]})
        for k in range(len(case['rois']))
    ]
    assert not same_bits([sum(maps)], [sum(reversed(maps))])


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
def test_layouts(dtype, layout, deterministic_operator, device):
    """Those of crops, of the gradient of the map, and of RoIs."""
    cases = (random_case(seed, dtype, device) for seed in range(20))
    for case in itertools.chain([crowded_case(dtype, device)], cases):
        expected = forward_and_backward(deterministic_operator, case)
        strided_rois = torch.cat([case['rois'], case['rois']], dim=1)[:, :5]
        other = {**case, 'rois': strided_rois}
        assert same_bits(forward_and_backward(deterministic_operator, other, layout), expected)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
def test_memory_format(dtype, layout, operator, device):
    """The map has that of the crops, and their gradient that of the gradient of the map."""
    is_channels_last = layout.startswith('channels_last')
    expected = torch.channels_last if is_channels_last else torch.contiguous_format
    for tensor in forward_and_backward(operator, small_case(dtype, device), layout):
        assert tensor.is_contiguous(memory_format=expected)
