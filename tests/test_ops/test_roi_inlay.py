"""RoIInlay's values: against the naive reference and RoIAlign, and where nothing is covered."""

import math

import pytest
import torch

from mmbanet.ops import RoIInlay, roi_inlay

from . import reference
from .samples import random_case, small_case

INF = math.inf
NAN = math.nan
TOLERANCES = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}


def expected_inlay(case):
    arrays = {**case, 'input': case['input'].double().cpu().numpy(), 'rois': case['rois'].tolist()}
    return torch.from_numpy(reference.roi_inlay(**arrays))


@pytest.mark.parametrize('first_seed', range(0, 260, 20))
def test_agrees_with_reference(first_seed, device):
    for seed in range(first_seed, first_seed + 20):
        case = random_case(seed, device=device)
        output = roi_inlay(**case)
        assert output.dtype == torch.float32
        assert output.is_contiguous()
        torch.testing.assert_close(
            output.double().cpu(), expected_inlay(case), rtol=1e-5, atol=1e-5, msg=f'seed {seed}'
        )


@pytest.mark.parametrize('dtype', TOLERANCES)
def test_dtypes(dtype, device):
    for seed in range(1000, 1010):
        case = random_case(seed, dtype, device)
        output = roi_inlay(**case)
        assert output.dtype == dtype
        tolerance = TOLERANCES[dtype]
        torch.testing.assert_close(
            output.double().cpu(), expected_inlay(case), rtol=tolerance, atol=tolerance
        )


def test_large_map_and_crop(device):
    """More pixels than one band, tile or vector, and crops larger than their RoIs."""
    generator = torch.Generator().manual_seed(0)
    case = {
        'input': torch.randn(3, 1, 40, 37, generator=generator).to(device),
        'rois': torch.tensor(
            [[0, 3.2, 5.0, 190.0, 131.5], [0, -40.0, 60.0, 30.0, 300.0], [0, 7.0, 7.0, 20.0, 16.0]],
            device=device,
        ),
        'batch_size': 1,
        'output_size': (140, 301),
    }
    torch.testing.assert_close(
        roi_inlay(**case).double().cpu(), expected_inlay(case), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_map_of_fresh_pages(memory_format, operator, device):
    """Maps over 32 MiB get memory that is 0 already; their channels are those of smaller maps."""
    crops = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(0)).to(device)
    rois = torch.tensor(
        [
            [0, -50, 20, 300, 900],
            [0, 250, 800, 400, 950],
            [0, 1650, 1750, 1700, 1800],
            [0, 5, 5, 9, 9],
        ],
        dtype=torch.float32,
        device=device,
    )
    size = (1800, 1700)
    output = operator(crops.contiguous(memory_format=memory_format), rois, 1, size)
    assert output.nbytes > 32 << 20
    tolerance = 1e-5 if device == 'cuda' else 0  # roi_upsample sums with atomics on CUDA
    for channel in range(3):
        part = operator(crops[:, channel : channel + 1], rois, 1, size)
        whole = output[:, channel : channel + 1]
        torch.testing.assert_close(whole, part, rtol=tolerance, atol=tolerance)
        assert not part[:, :, 1000:1700].any()


@pytest.mark.parametrize('spatial_scale', [1.0, 0.25])
@pytest.mark.parametrize('output_size', [(7, 7), (14, 14), (5, 9)])
def test_undoes_roi_align(spatial_scale, output_size, device):
    """RoIAlign samples an affine image exactly; RoIInlay must return it between those samples."""
    mmcv_ops = pytest.importorskip('mmcv.ops')
    height, width = 40, 50
    y = torch.arange(height, dtype=torch.float32)[:, None]
    x = torch.arange(width, dtype=torch.float32)
    image = torch.stack([3 + 0.5 * y - 0.2 * x, -7 + 0.1 * y + 0.3 * x])[None].to(device)
    boxes = torch.tensor([[2.0, 3.0, 30.0, 35.0], [20.0, 10.0, 48.5, 22.25], [5.5, 6.5, 9.0, 12.0]])
    for box in boxes:
        roi = torch.cat([torch.zeros(1), box / spatial_scale])[None].to(device)
        align = mmcv_ops.RoIAlign(output_size, spatial_scale, sampling_ratio=1, aligned=True)
        crops = align(image, roi)
        output = roi_inlay(crops, roi, 1, (height, width), spatial_scale)
        x1, y1, x2, y2 = (box - 0.5).tolist()
        bin_height, bin_width = (y2 - y1) / output_size[0], (x2 - x1) / output_size[1]
        inside = (
            ((y >= y1 + bin_height / 2) & (y <= y2 - bin_height / 2))
            & ((x >= x1 + bin_width / 2) & (x <= x2 - bin_width / 2))
        ).to(device)
        assert inside.sum() >= 4
        torch.testing.assert_close(output[..., inside], image[..., inside], rtol=1e-4, atol=1e-5)


def test_hand_worked_example(device):
    """Sampling points at 1 and 3 on both axes of a RoI that covers pixels 0 to 4."""
    crops = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]], device=device)
    rois = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]], device=device)
    output = roi_inlay(crops, rois, 1, (6, 5), aligned=False)
    row = torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0], device=device)
    expected = torch.stack([row, row, row + 2, row + 4, row + 4, torch.zeros_like(row)])
    torch.testing.assert_close(output[0, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    'box',
    [
        (NAN, 0, 9, 9),
        (0, 0, NAN, 9),
        (0, -INF, 9, 9),
        (0, 0, INF, INF),
        (-INF, -INF, INF, INF),
        (9, 0, 0, 9),
        (0, 5, 9, 5),
        (30, 30, 40, 40),
        (-1e30, -1e30, -1e29, -1e29),
    ],
)
def test_covers_nothing(box, device):
    crops = torch.ones(1, 2, 3, 3, device=device)
    rois = torch.tensor([[0, *box]], dtype=torch.float32, device=device)
    assert not roi_inlay(crops, rois, 1, (10, 10)).any()


@pytest.mark.parametrize('box', [(-1e30, -1e30, 1e30, 1e30), (-3e38, -5, 3e37, 1e9)])
def test_huge_roi_covers_all(box, device):
    crops = torch.ones(1, 2, 3, 3, device=device)
    rois = torch.tensor([[0, *box]], dtype=torch.float32, device=device)
    assert (roi_inlay(crops, rois, 1, (10, 10)) == 1).all()


@pytest.mark.parametrize(
    ('x1', 'x2', 'spatial_scale', 'covered'),
    [(-1.5632433891296387, 15.0, 0.3, 5), (-1e17, 5.25, 1.0, 5), (-1e30, 5.5, 1.0, 6)],
)
def test_far_edge_on_a_pixel(x1, x2, spatial_scale, covered, device):
    """The far edge is rounded neither by the addition of the width nor by a huge near edge."""
    rois = torch.tensor([[0.0, x1, -50.0, x2, 50.0]], dtype=torch.float64, device=device)
    crops = torch.ones(1, 1, 2, 2, device=device)
    output = roi_inlay(crops, rois, 1, (1, 12), spatial_scale)
    assert output[0, 0, 0].tolist() == [1.0] * covered + [0.0] * (12 - covered)


def test_nonfinite_features_stay_local(device):
    """A NaN reaches only the pixels that interpolate it."""
    crops = torch.ones(1, 1, 8, 8, device=device)
    crops[0, 0, 3, 4] = NAN
    rois = torch.tensor([[0.0, 0.0, 0.0, 32.0, 32.0]], device=device)
    case = {'input': crops, 'rois': rois, 'batch_size': 1, 'output_size': (33, 33)}
    expected = expected_inlay(case)
    output = roi_inlay(**case).cpu()
    assert torch.equal(output.isnan(), expected.isnan())
    assert 0 < output.isnan().sum() < 100


@pytest.mark.parametrize(
    ('crop_shape', 'batch_size', 'output_size'),
    [
        ((0, 3, 4, 4), 2, (5, 6)),
        ((2, 0, 4, 4), 1, (5, 6)),
        ((2, 3, 4, 4), 1, (0, 6)),
        ((2, 3, 4, 4), 1, (5, 0)),
        ((0, 3, 4, 4), 0, (5, 6)),
    ],
)
def test_empty(crop_shape, batch_size, output_size, operator, device):
    crops = torch.randn(crop_shape, device=device, requires_grad=True)
    rois = torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0]], device=device).repeat(crop_shape[0], 1)
    output = operator(crops, rois, batch_size, output_size)
    assert output.shape == (batch_size, crop_shape[1], *output_size)
    assert not output.any()
    output.sum().backward()
    assert crops.grad.shape == crop_shape


def test_image_without_rois_is_zero(operator, device):
    case = small_case(torch.float32, device)
    output = operator(**{**case, 'batch_size': 4})
    assert output[:2].any()
    assert not output[2:].any()


def test_module(device):
    case = small_case(torch.float32, device)
    expected = roi_inlay(**case)
    arguments = (case['input'], case['rois'], case['batch_size'])
    module = RoIInlay(spatial_scale=0.5)
    assert torch.equal(module(*arguments, case['output_size']), expected)
    module = RoIInlay(case['output_size'], 0.5)
    assert torch.equal(module(*arguments), expected)
    assert 'spatial_scale=0.5' in repr(module)
