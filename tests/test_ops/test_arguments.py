"""Every wrong argument gets one error that names it."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from mmbanet.ops import RoIInlay, RoIUpsample, roi_upsample

from .samples import small_case


class Index:
    """A size of somebody else's."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


INTS = (np.int64, np.int32, np.uint8, torch.tensor, lambda n: torch.tensor(n).byte(), Index)
NO_INTS = (True, np.True_, torch.tensor(True), 7.0, np.float64(7), torch.tensor(7.0), '7', None)
REAL_DTYPES = (
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.uint8,
)


@pytest.mark.parametrize(
    ('changed', 'error', 'message'),
    [
        ({'input': [1.0]}, TypeError, 'input must be a torch.Tensor, got list'),
        ({'rois': None}, TypeError, 'rois must be a torch.Tensor, got NoneType'),
        ({'input': torch.zeros(5, 2, 3)}, ValueError, r'input must have shape \(K, C, h, w\)'),
        ({'input': torch.zeros(5, 2, 3, 4).int()}, TypeError, 'input must be float64.*Int'),
        ({'input': torch.zeros(4, 2, 3, 4)}, ValueError, "one row for each of input's 4 crops"),
        ({'input': torch.zeros(5, 2, 0, 4)}, ValueError, "input's crop height must be between 1"),
        ({'rois': torch.zeros(5, 4)}, ValueError, r'rois must have shape \(K, 5\).*\[5, 4\]'),
        ({'rois': torch.zeros(5)}, ValueError, r'rois must have shape \(K, 5\)'),
        ({'rois': torch.zeros(5, 5).bool()}, TypeError, 'rois must have a floating.* got Bool'),
        ({'rois': torch.zeros(5, 5).cfloat()}, TypeError, 'rois must have a floating.* Complex'),
        ({'batch_size': -1}, ValueError, 'batch_size must not be negative, got -1'),
        ({'batch_size': 2.0}, TypeError, 'batch_size must be an int, got float'),
        *(
            ({'batch_size': value}, TypeError, 'batch_size must be an int, got')
            for value in NO_INTS
        ),
        *(
            ({'output_size': (7, value)}, TypeError, 'output_size must be two ints')
            for value in NO_INTS
        ),
        ({'output_size': {7, 9}}, TypeError, 'output_size must be two ints'),
        ({'output_size': torch.tensor(7)}, TypeError, 'output_size must be two ints'),
        ({'output_size': 7}, TypeError, 'output_size must be two ints .* got 7'),
        ({'output_size': (7, 9, 1)}, TypeError, 'output_size must be two ints'),
        ({'output_size': None}, TypeError, 'output_size must be two ints .* got None'),
        ({'output_size': (7, -9)}, ValueError, r'output_size\[1\] must be between 0 .* got -9'),
        ({'spatial_scale': 0.0}, ValueError, 'spatial_scale must be positive and finite, got 0'),
        ({'spatial_scale': float('nan')}, ValueError, 'spatial_scale must be positive and finite'),
        ({'spatial_scale': '1'}, TypeError, 'spatial_scale must be a number, got str'),
        ({'aligned': 1}, TypeError, 'aligned must be a bool, got int'),
    ],
)
def test_wrong_argument(changed, error, message, operator):
    with pytest.raises(error, match=message):
        operator(**{**small_case(torch.float32), **changed})


@pytest.mark.parametrize('image', [-1.0, 2.0, 1e30, float('nan'), float('inf')])
def test_image_index_out_of_range(image, operator):
    case = small_case(torch.float32)
    case['rois'][3, 0] = image
    with pytest.raises(ValueError, match=r'rois\[3, 0\] must be an image index in \[0, 2\), got'):
        operator(**case)


def test_image_index_out_of_range_in_backward():
    grad = torch.zeros(1, 2, 7, 9)
    rois = small_case(torch.float32)['rois']
    with pytest.raises(ValueError, match=r'rois\[2, 0\]'):
        torch.ops.mmbanet.roi_inlay_backward(grad, rois, 3, 4, 0.5, True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('image', [-1.0, 2.0, 1e30, float('nan')])
def test_image_index_out_of_range_is_skipped_on_cuda(image, operator):
    case = small_case(torch.float32, 'cuda')
    without = {**case, 'rois': case['rois'].clone()}
    without['rois'][3, 3] = without['rois'][3, 1]
    case['rois'][3, 0] = image
    torch.testing.assert_close(operator(**case), operator(**without))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_devices_differ(operator):
    case = small_case(torch.float32, 'cuda')
    with pytest.raises(ValueError, match="rois must be on input's device cuda:0, got cpu"):
        operator(**{**case, 'rois': case['rois'].cpu()})


def test_unknown_reduction():
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'max'"):
        roi_upsample(**small_case(torch.float32), reduction='max')
    with pytest.raises(ValueError, match='reduction must be'):
        RoIUpsample(reduction='max')


@pytest.mark.parametrize('number', INTS)
def test_sizes_are_what_has_index(number, operator):
    case = small_case(torch.float32)
    expected = operator(**case)
    height, width = map(number, case['output_size'])
    for size in ((height, width), [height, width]):
        output = operator(**{**case, 'batch_size': number(2), 'output_size': size})
        assert torch.equal(output, expected)


@pytest.mark.parametrize('sequence', [list, torch.Size, np.array, torch.tensor])
def test_output_size_is_any_sequence(sequence, operator):
    case = small_case(torch.float32)
    output = operator(**{**case, 'output_size': sequence(case['output_size'])})
    assert torch.equal(output, operator(**case))


@pytest.mark.parametrize('module', [RoIInlay, RoIUpsample])
def test_modules_take_such_sizes(module):
    case = small_case(torch.float32)
    settings = {name: case.pop(name) for name in ('spatial_scale', 'aligned')}
    size = tuple(map(np.int64, case.pop('output_size')))
    expected = module((7, 9), **settings)(**case)
    assert torch.equal(module(size, **settings)(**case), expected)
    assert torch.equal(module(**settings)(**case, output_size=size), expected)


@pytest.mark.parametrize('dtype', REAL_DTYPES)
@pytest.mark.parametrize('autocast', [False, True])
def test_rois_of_any_real_dtype(dtype, autocast, operator, device):
    """The same bits as those values give in float32; of features of any dtype, and backward too."""
    case = small_case(torch.float16 if autocast else torch.float32, device)
    case['rois'] = case['rois'].clamp(min=0).round()  # every dtype holds them
    results = []
    for rois in (case['rois'], case['rois'].to(dtype)):
        input = case['input'].clone().requires_grad_()
        with torch.autocast(device, torch.float16, enabled=autocast):
            output = operator(**{**case, 'input': input, 'rois': rois})
        output.float().square().sum().backward()
        results.append((output.detach(), input.grad))
    assert results[0][0].dtype == results[1][0].dtype == case['input'].dtype
    # roi_upsample sums with atomics on CUDA.
    tolerance = max(1e-6, 4 * torch.finfo(input.dtype).eps) if device == 'cuda' else 0
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_halves_lose_what_they_cannot_hold(dtype, operator):
    """What is documented: the coordinates are those that the dtype has rounded."""
    case = small_case(torch.float32)
    case |= {'output_size': (12, 1100), 'spatial_scale': 1.0}
    case['rois'][:, [1, 3]] += 1030.4
    rounded = case['rois'].to(dtype)
    output = operator(**{**case, 'rois': rounded})
    assert torch.equal(output, operator(**{**case, 'rois': rounded.float()}))
    assert not torch.equal(output, operator(**case))


def test_not_built():
    """Importing works; using the operators says what is missing and how to build it."""
    script = """
import sys
sys.modules['mmbanet._ops'] = None  # makes the import fail
import torch
from mmbanet.ops import RoIInlay, resized_argmax, roi_inlay, roi_upsample
for use in (
    RoIInlay,
    lambda: roi_inlay(*[None] * 4),
    lambda: roi_upsample(*[None] * 4),
    lambda: resized_argmax(None),
):
    try:
        use()
    except ImportError as error:
        assert 'pip install --no-build-isolation -e .' in str(error), error
        assert 'The cause was: ' in str(error), error
    else:
        raise AssertionError('no error')
"""
    subprocess.run([sys.executable, '-c', script], check=True)
