"""The operator against the same maths in plain torch, values and gradients."""

import pytest
import torch

from mmbanet.ops import roi_inlay
from mmbanet.ops.decomposition import decompose_roi_inlay

from .samples import random_case, small_case

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def decomposed(input, rois, batch_size, output_size, spatial_scale=1.0, aligned=True):
    return decompose_roi_inlay(input, rois, batch_size, *output_size, spatial_scale, aligned)


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('first_seed', range(0, 200, 20))
def test_agrees_with_operator(first_seed, dtype, device):
    tolerance = TOLERANCES[dtype]
    for seed in range(first_seed, first_seed + 20):
        case = random_case(seed, dtype, device)
        output = decomposed(**case)
        assert output.dtype == dtype
        torch.testing.assert_close(
            output, roi_inlay(**case), rtol=tolerance, atol=tolerance, msg=f'seed {seed}'
        )


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('seed', range(3000, 3020))
def test_gradients_agree_with_operator(seed, dtype, device):
    case = random_case(seed, dtype, device)
    gradients = []
    for function in (roi_inlay, decomposed):
        input = case['input'].detach().requires_grad_()
        output = function(**{**case, 'input': input})
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed))
        gradients += torch.autograd.grad(output, input, weights.to(output))
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    'box',
    [
        (float('nan'), 0, 9, 9),
        (0, 0, float('inf'), 9),
        (float('-inf'), float('-inf'), float('inf'), float('inf')),
        (0, 5, 9, 5),
        (-1e30, -1e30, 1e30, 1e30),
        (-3e38, -5, 3e37, 1e9),
    ],
)
def test_extreme_rois(box, device):
    crops = torch.ones(1, 2, 3, 3, device=device)
    rois = torch.tensor([[0, *box]], dtype=torch.float32, device=device)
    expected = roi_inlay(crops, rois, 1, (10, 10))
    torch.testing.assert_close(decomposed(crops, rois, 1, (10, 10)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('image', [-1.0, 2.0, 1e30, float('nan')])
def test_image_index_out_of_range_covers_nothing(image, device):
    case = small_case(device=device)
    without = {**case, 'rois': case['rois'].clone()}
    without['rois'][3, 3] = without['rois'][3, 1]
    case['rois'][3, 0] = image
    torch.testing.assert_close(decomposed(**case), roi_inlay(**without), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('crop_shape', 'batch_size', 'output_size'),
    [((0, 3, 4, 4), 2, (5, 6)), ((2, 0, 4, 4), 1, (5, 6)), ((2, 3, 4, 4), 1, (0, 6))],
)
def test_empty(crop_shape, batch_size, output_size, device):
    crops = torch.randn(crop_shape, device=device)
    rois = torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0]], device=device).repeat(crop_shape[0], 1)
    output = decomposed(crops, rois, batch_size, output_size)
    assert output.shape == (batch_size, crop_shape[1], *output_size)
    assert not output.any()
