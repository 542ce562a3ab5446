"""Gradients of any order, and the operators' registrations with torch."""

import itertools

import pytest
import torch
from torch.autograd.gradcheck import GradcheckError

from mmbanet.ops import roi_inlay

from . import reference
from .samples import DTYPES, LAYOUTS, empty_cases, random_case, small_case


def differentiable(operator, case, layout='contiguous'):
    """The operator as a function of its input alone, and that input."""
    options = {name: value for name, value in case.items() if name != 'input'}
    input = LAYOUTS[layout](case['input']).requires_grad_()
    return (lambda crops: operator(crops, **options)), input


def check_gradients(function, input, fast_mode=False):
    """First and second derivatives, to a few units in the last place.

    The operators are linear, so a difference quotient is exact for any step: 1 suits every dtype.
    """
    eps = torch.finfo(input.dtype).eps
    options = {
        'eps': 1,
        # The fast mode multiplies it by the sizes of input and output.
        'atol': eps / 16 if fast_mode else 16 * eps,
        'rtol': 16 * eps,
        # RoIUpsample, which is its own second derivative, sums with atomics on CUDA.
        'nondet_tol': 16 * eps if input.is_cuda else 0,
        'fast_mode': fast_mode,
    }
    torch.autograd.gradcheck(function, (input,), **options)
    torch.autograd.gradgradcheck(function, (input,), **options)


OPCHECKS = (
    'test_schema',
    'test_autograd_registration',
    'test_faketensor',
    'test_aot_dispatch_static',
    'test_aot_dispatch_dynamic',
)

pytestmark = pytest.mark.filterwarnings('ignore:Input #. requires gradient and is not a double')


@pytest.mark.parametrize('layout', LAYOUTS)
def test_gradcheck(layout, operator, device):
    """The whole Jacobian."""
    check_gradients(*differentiable(operator, small_case(device=device), layout))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
def test_gradcheck_random(dtype, layout, operator, device):
    """The Jacobian between two random vectors."""
    for seed in range(20):
        case = random_case(seed, dtype, device)
        check_gradients(*differentiable(operator, case, layout), fast_mode=True)


@pytest.mark.parametrize(
    ('dtype', 'fast_mode'), [(torch.float64, False), *((dtype, True) for dtype in DTYPES)]
)
def test_gradcheck_finds_wrong_gradient(dtype, fast_mode, operator):
    """The control: the right value with a gradient that is 1.5 times what it should be."""
    function, input = differentiable(operator, small_case(dtype))

    def wrong(crops):
        output = function(crops)
        return output + (output - output.detach()) / 2

    with pytest.raises(GradcheckError):
        check_gradients(wrong, input, fast_mode)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
def test_backward_is_the_transpose(dtype, layout, operator, device):
    """<inlay(x), y> = <x, backward(y)> for any x and y."""
    for seed in range(2000, 2020):
        case = random_case(seed, dtype, device)
        function, input = differentiable(operator, case, layout)
        output = function(input)
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
        weights = LAYOUTS[layout](weights.to(output))
        (gradient,) = torch.autograd.grad(output, input, weights)
        # No weight of the operators is negative: this sums up the absolute value of every term.
        magnitude = inner_product(function(input.abs()), weights.abs())
        difference = inner_product(output, weights) - inner_product(input, gradient)
        assert difference.abs() <= 8 * torch.finfo(dtype).eps * magnitude, seed


def inner_product(tensor, other):
    return (tensor.detach().double() * other.detach().double()).sum()


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


def check_registrations(name, case, layout='contiguous', mean=False):
    """Opcheck of an operator and of its backward operator."""
    options = (case['spatial_scale'], case['aligned'])
    options += (mean,) if name == 'roi_upsample' else ()
    input = LAYOUTS[layout](case['input']).requires_grad_()
    forward = getattr(torch.ops.mmbanet, name).default
    arguments = (input, case['rois'], case['batch_size'], *case['output_size'], *options)
    torch.library.opcheck(forward, arguments, test_utils=OPCHECKS)
    backward = getattr(torch.ops.mmbanet, f'{name}_backward').default
    grad = LAYOUTS[layout](torch.randn_like(forward(*arguments))).requires_grad_()
    arguments = (grad, case['rois'], *input.shape[-2:], *options)
    torch.library.opcheck(backward, arguments, test_utils=OPCHECKS)


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', ['roi_inlay', 'roi_upsample'])
def test_opcheck(name, dtype, layout, device):
    check_registrations(name, small_case(dtype, device), layout)


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('name', ['roi_inlay', 'roi_upsample'])
def test_opcheck_random(name, seed, device):
    """Each seed has another pair of a dtype and a layout."""
    dtype, layout = list(itertools.product(DTYPES, LAYOUTS))[seed]
    case = random_case(seed, dtype, device)
    check_registrations(name, case, layout, mean=bool(seed % 2))


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('case', range(4))
@pytest.mark.parametrize('name', ['roi_inlay', 'roi_upsample'])
def test_opcheck_empty(name, case, layout, device):
    check_registrations(name, empty_cases(device=device)[case], layout)
