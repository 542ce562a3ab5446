"""Under autocast the operators run in the dtype of their input, and RoIs keep theirs."""

import pytest
import torch

from .samples import small_case


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('autocast_dtype', [torch.float16, torch.bfloat16])
def test_changes_nothing(dtype, autocast_dtype, operator, device):
    case = small_case(dtype, device)
    case['input'].requires_grad_()
    expected = operator(**case)
    (expected_gradient,) = torch.autograd.grad(expected.float().square().sum(), case['input'])
    with torch.autocast(device, autocast_dtype):
        output = operator(**case)
    (gradient,) = torch.autograd.grad(output.float().square().sum(), case['input'])
    assert output.dtype == gradient.dtype == dtype
    # roi_upsample sums with atomics on CUDA.
    tolerance = max(1e-6, 4 * torch.finfo(dtype).eps) if device == 'cuda' else 0
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(gradient, expected_gradient, rtol=tolerance, atol=tolerance)


def test_half_features_and_float_rois(operator, device):
    """As in a model: a layer that autocast runs in bfloat16 feeds the operator."""
    case = small_case(torch.float32, device)
    layer = torch.nn.Conv2d(2, 2, 1, device=device)
    # 1001 and 1003 are not bfloat16 numbers: RoIs that were rounded would be elsewhere.
    case['rois'] = torch.tensor([[0.0, 1001.0, 3.0, 1003.0, 9.0]], device=device)
    case = {**case, 'input': case['input'][:1], 'output_size': (7, 505)}
    with torch.autocast(device, torch.bfloat16):
        crops = layer(case['input'])
        output = operator(**{**case, 'input': crops})
    assert crops.dtype == output.dtype == torch.bfloat16
    torch.testing.assert_close(output, operator(**{**case, 'input': crops.detach()}))
    output.sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.any()
