"""Every wrong argument gets one error that names it."""

import subprocess
import sys

import pytest
import torch

from mmbanet.ops import RoIUpsample, roi_inlay, roi_upsample

from .samples import small_case


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
        ({'rois': torch.zeros(5, 5).half()}, TypeError, 'rois must be float32 or float64.*Half'),
        ({'rois': torch.zeros(5, 5).long()}, TypeError, 'rois must be float32 or float64.*Long'),
        ({'batch_size': -1}, ValueError, 'batch_size must not be negative, got -1'),
        ({'batch_size': 2.0}, TypeError, 'batch_size must be an int, got float'),
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


def test_rois_may_be_more_precise_than_input():
    case = small_case(torch.float32)
    output = roi_inlay(**{**case, 'rois': case['rois'].double()})
    assert torch.equal(output, roi_inlay(**case))


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
