"""RoIUpsample's values, with both reductions, and the holes that it leaves."""

import pytest
import torch

from mmbanet.ops import RoIUpsample, roi_upsample

from . import reference
from .samples import random_case, small_case


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('first_seed', range(0, 100, 20))
def test_agrees_with_reference(first_seed, reduction, device):
    for seed in range(first_seed, first_seed + 20):
        case = random_case(seed, torch.float64, device)
        output = roi_upsample(**case, reduction=reduction).cpu()
        arrays = {**case, 'input': case['input'].cpu().numpy(), 'rois': case['rois'].tolist()}
        expected = torch.from_numpy(reference.roi_upsample(**arrays, reduction=reduction))
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10, msg=f'seed {seed}')


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('reduction', ['sum', 'mean'])
def test_dtypes(dtype, reduction, device):
    case = small_case(dtype, device)
    output = roi_upsample(**case, reduction=reduction)
    expected = roi_upsample(
        **{**case, 'input': case['input'].double(), 'rois': case['rois'].double()},
        reduction=reduction,
    )
    assert output.dtype == dtype
    tolerance = 10 * torch.finfo(dtype).eps
    torch.testing.assert_close(output.double(), expected, rtol=tolerance, atol=tolerance)


def test_hand_worked_example(device):
    """One sampling point at (1.5, 2): half way between two rows, exactly on a column."""
    crops = torch.full((2, 1, 1, 1), 3.0, device=device)
    rois = torch.tensor([[0.0, 1.5, 1.0, 2.5, 2.0]], device=device).repeat(2, 1)
    expected = torch.zeros(4, 5, device=device)
    # (0.5 / (0.5² + 0.5²)) * (1 / 1²) = 1, from each of the two RoIs.
    expected[1:3, 2] = 6.0
    output = roi_upsample(crops, rois, 1, (4, 5), aligned=False)
    torch.testing.assert_close(output[0, 0], expected, rtol=0, atol=1e-6)
    output = roi_upsample(crops, rois, 1, (4, 5), aligned=False, reduction='mean')
    torch.testing.assert_close(output[0, 0], expected / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
def test_point_just_before_the_end_of_the_map(reduction, device):
    """Within rounding it is on pixel 10 of 10: outside."""
    crops = torch.ones(1, 1, 1, 1, device=device)
    end = 10 - 1e-10
    for box in ((4.5, end - 0.5, 5.5, end + 0.5), (end - 0.5, 4.5, end + 0.5, 5.5)):
        rois = torch.tensor([[0, *box]], dtype=torch.float64, device=device)
        output = roi_upsample(crops, rois, 1, (10, 10), aligned=False, reduction=reduction)
        assert not output.any()


def test_leaves_holes(device):
    """Figure 7: pixels between the sampling points of a large RoI get nothing."""
    crops = torch.ones(1, 1, 4, 4, device=device)
    rois = torch.tensor([[0.0, 0.0, 0.0, 32.0, 32.0]], device=device)
    assert (roi_upsample(crops, rois, 1, (32, 32)) != 0).sum() <= 4 * 4 * 4


def test_module(device):
    case = small_case(torch.float32, device)
    module = RoIUpsample(spatial_scale=0.5, reduction='mean')
    output = module(case['input'], case['rois'], case['batch_size'], case['output_size'])
    expected = roi_upsample(**case, reduction='mean')
    tolerance = 1e-5 if device == 'cuda' else 0  # sums with atomics on CUDA
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    assert "reduction='mean'" in repr(module)
