"""Gradients of any order, and the operators' registrations with torch."""

import pytest
import torch

from mmbanet.ops import roi_inlay

from . import reference
from .samples import random_case, small_case


def differentiable(operator, case):
    """The operator as a function of its input alone, and that input."""
    options = {name: value for name, value in case.items() if name != 'input'}
    input = case['input'].detach().requires_grad_()
    return (lambda crops: operator(crops, **options)), input


@pytest.mark.parametrize('aligned', [True, False])
def test_gradcheck(operator, aligned, device):
    function, input = differentiable(operator, {**small_case(device=device), 'aligned': aligned})
    assert torch.autograd.gradcheck(function, (input,), nondet_tol=1e-12 if input.is_cuda else 0)
    assert torch.autograd.gradgradcheck(
        function, (input,), nondet_tol=1e-12 if input.is_cuda else 0
    )


@pytest.mark.parametrize('seed', range(12))
def test_gradcheck_random(seed, device):
    case = random_case(seed, torch.float64, device)
    case['input'] = case['input'][:, :1]
    function, input = differentiable(roi_inlay, case)
    assert torch.autograd.gradcheck(function, (input,), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (input,), fast_mode=True)


@pytest.mark.parametrize('seed', range(2000, 2020))
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_backward_is_the_transpose(seed, dtype, operator, device):
    """<inlay(x), y> = <x, backward(y)> for any x and y."""
    case = random_case(seed, dtype, device)
    function, input = differentiable(operator, case)
    output = function(input)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
    weights = weights.to(output)
    (gradient,) = torch.autograd.grad(output, input, weights)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(
        (output * weights).double().sum(),
        (input * gradient).double().sum(),
        rtol=tolerance,
        atol=tolerance * output.numel() ** 0.5,
    )


def test_backward_agrees_with_reference(device):
    """Column by column: the gradient of one pixel is the reference's response to unit crops."""
    case = small_case(torch.float32, device)
    case['input'] = case['input'][:, :1]
    function, input = differentiable(roi_inlay, case)
    output = function(input)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(output, input, weights.to(device))
    arrays = {**case, 'rois': case['rois'].tolist()}
    expected = torch.zeros(input.shape)
    for index in torch.cartesian_prod(*map(torch.arange, input.shape)):
        unit = torch.zeros(input.shape, dtype=torch.float64)
        unit[tuple(index)] = 1
        response = reference.roi_inlay(**{**arrays, 'input': unit.numpy()})
        expected[tuple(index)] = (torch.from_numpy(response) * weights).sum()
    torch.testing.assert_close(gradient.cpu(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_gradients(dtype, operator, device):
    case = small_case(dtype, device)
    function, input = differentiable(operator, case)
    output = function(input)
    (gradient,) = torch.autograd.grad(output.float().square().sum(), input)
    double = {**case, 'input': case['input'].double(), 'rois': case['rois'].double()}
    function, input = differentiable(operator, double)
    (expected,) = torch.autograd.grad(function(input).square().sum(), input)
    assert gradient.dtype == dtype
    tolerance = 50 * torch.finfo(dtype).eps
    torch.testing.assert_close(gradient.double(), expected, rtol=tolerance, atol=tolerance)


def test_nonfinite_gradients_stay_local(device):
    """An infinite gradient of one pixel reaches only the sampling points around it."""
    crops = torch.zeros(1, 1, 8, 8, device=device, requires_grad=True)
    rois = torch.tensor([[0.0, 0.0, 0.0, 32.0, 32.0]], device=device)
    output = roi_inlay(crops, rois, 1, (33, 33))
    weights = torch.ones_like(output)
    weights[0, 0, 12, 17] = torch.inf
    output.backward(weights)
    assert 1 <= (~crops.grad.isfinite()).sum() <= 4


@pytest.mark.parametrize('name', ['roi_inlay', 'roi_upsample'])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
def test_opcheck(name, dtype, device):
    case = small_case(dtype, device)
    options = (case['spatial_scale'], case['aligned'])
    options += (True,) if name == 'roi_upsample' else ()
    input = case['input'].requires_grad_()
    forward = getattr(torch.ops.mmbanet, name).default
    arguments = (input, case['rois'], case['batch_size'], *case['output_size'], *options)
    torch.library.opcheck(forward, arguments)
    backward = getattr(torch.ops.mmbanet, f'{name}_backward').default
    grad = torch.randn_like(forward(*arguments)).requires_grad_()
    torch.library.opcheck(backward, (grad, case['rois'], *input.shape[-2:], *options))
