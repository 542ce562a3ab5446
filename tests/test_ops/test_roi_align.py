"""RoIAlign against mmcv's, against a loop over samples, and its gradients."""

import math

import numpy as np
import pytest
import torch
from mmcv.ops import roi_align as mmcv_roi_align
from torch._subclasses import FakeTensorMode

from mmbanet.ops import RoIAlign, roi_align

from .samples import LAYOUTS, SCALES

# mmcv rounds the scale to float32.
EXACT_SCALES = (1.0, 0.5, 0.25)
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-10}


def random_case(seed, dtype=torch.float32):
    """Arguments: 0 to 12 RoIs from a fraction of a pixel to beyond the map, up to 3 images."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    num_rois, batch_size = integer(0, 12), integer(1, 3)
    height, width = integer(1, 40), integer(1, 40)
    scales = SCALES if dtype == torch.float32 else EXACT_SCALES
    scale = scales[integer(0, len(scales) - 1)]
    sides = 10 ** (3 * uniform(num_rois, 2) - 1)
    centres = (uniform(num_rois, 2) * 1.6 - 0.3) * torch.tensor([width, height])
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1) / scale
    if integer(0, 1):
        boxes = boxes.round()  # edges on pixels, whole numbers of samples, RoIs without extent
    images = torch.randint(0, batch_size, (num_rois, 1), generator=generator)
    channels = [1, 2, 5, 16, 17, 40][integer(0, 5)]
    return {
        'input': torch.randn(batch_size, channels, height, width, generator=generator, dtype=dtype),
        'rois': torch.cat([images, boxes], dim=1).to(dtype),
        'output_size': (integer(1, 9), integer(1, 9)),
        'spatial_scale': scale,
        'sampling_ratio': integer(0, 2),
        'aligned': bool(integer(0, 1)),
    }


def of_mmcv(input, rois, output_size, spatial_scale, sampling_ratio, aligned):
    return mmcv_roi_align(input, rois, output_size, spatial_scale, sampling_ratio, 'avg', aligned)


def by_samples(input, rois, output_size, spatial_scale, sampling_ratio, aligned):
    """One sample after the other, from the definition, in float64."""
    crops = torch.zeros(len(rois), input.shape[1], *output_size, dtype=torch.float64)
    for crop, (index, *box) in zip(crops, rois.double().tolist(), strict=True):
        x1, y1, x2, y2 = (side * spatial_scale - (0.5 if aligned else 0) for side in box)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1), max(height, 1)
        ys = grid(y1, height, output_size[0], sampling_ratio)
        xs = grid(x1, width, output_size[1], sampling_ratio)
        for i, row in enumerate(ys):
            for j, column in enumerate(xs):
                for y in row:
                    for x in column:
                        value = sample(input[int(index)].double(), y, x)
                        crop[:, i, j] += value / (len(row) * len(column))
    return crops


def grid(start, extent, bins, sampling_ratio):
    """Positions of the samples of each bin along an axis."""
    samples = sampling_ratio or math.ceil(extent / bins)
    return [
        [start + extent * (bin + (i + 0.5) / samples) / bins for i in range(samples)]
        for bin in range(bins)
    ]


def sample(image, y, x):
    height, width = image.shape[1:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros(len(image), dtype=torch.float64)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    value = 0
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return value


def forward_and_backward(operator, case):
    """Crops, and the gradient of the map for fixed weights of the crops."""
    input = case['input'].clone().requires_grad_()
    crops = operator(**{**case, 'input': input})
    weights = torch.randn(crops.shape, generator=torch.Generator().manual_seed(0)).to(crops)
    (gradient,) = torch.autograd.grad(crops, input, weights)
    return crops.detach(), gradient


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('seed', range(200))
def test_equals_mmcv(seed, dtype):
    case = random_case(seed, dtype)
    tolerance = TOLERANCES[dtype]
    expected, expected_gradient = forward_and_backward(of_mmcv, case)
    crops, gradient = forward_and_backward(roi_align, case)
    assert crops.is_contiguous()
    torch.testing.assert_close(crops, expected, rtol=tolerance, atol=tolerance)
    size = 1 + expected_gradient.abs().max()  # many terms, whose rounding errors add up
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=float(tolerance * size))


def test_mmcv_with_other_arguments_differs():
    """The control: every argument makes a difference."""
    case = {**random_case(8), 'spatial_scale': 0.5, 'sampling_ratio': 2, 'aligned': True}
    case['rois'] = torch.tensor([[0.0, 3.0, 4.0, 37.0, 29.0]])
    crops = roi_align(**case)
    for changed in ({'spatial_scale': 0.4}, {'sampling_ratio': 0}, {'aligned': False}):
        assert (of_mmcv(**{**case, **changed}) - crops).abs().max() > 1e-3


@pytest.mark.parametrize('seed', range(40))
def test_equals_a_loop_over_samples(seed):
    case = random_case(seed, torch.float64)
    case['rois'] = case['rois'][:4]
    torch.testing.assert_close(roi_align(**case), by_samples(**case), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_layouts(dtype, layout):
    """The same bits in every layout, and the layout of the map in the crops."""
    for seed in range(20):
        case = random_case(seed, dtype if dtype == torch.float64 else torch.float32)
        case['input'] = case['input'].to(dtype)
        other = {**case, 'input': LAYOUTS[layout](case['input'])}
        crops, gradient = forward_and_backward(roi_align, other)
        expected, expected_gradient = forward_and_backward(roi_align, case)
        assert torch.equal(crops, expected)
        assert torch.equal(gradient, expected_gradient)
        if layout.startswith('channels_last'):
            assert crops.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_halves_are_accumulated_in_float32(dtype):
    for seed in range(20):
        case = random_case(seed)
        case['input'] = case['input'].to(dtype)
        expected = roi_align(**{**case, 'input': case['input'].float()})
        assert torch.equal(roi_align(**case), expected.to(dtype))


def test_half_rois():
    case = random_case(3)
    case['rois'] = case['rois'].half()
    assert torch.equal(roi_align(**case), roi_align(**{**case, 'rois': case['rois'].float()}))


@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_gradcheck(sampling_ratio):
    case = random_case(5, torch.float64)
    case.update(sampling_ratio=sampling_ratio, output_size=(3, 2))
    case['input'] = case['input'][:, :2, :7, :6].clone().requires_grad_()
    case['rois'] = torch.tensor([[0, 1.0, 2.0, 9.0, 30.0], [0, -3.0, -5.0, 12.0, 3.5]]).double()

    def of_input(input):
        return roi_align(**{**case, 'input': input})

    assert torch.autograd.gradcheck(of_input, case['input'])
    assert torch.autograd.gradgradcheck(of_input, case['input'])


def test_threads():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(50, 2, 2, generator=generator) * 60
    boxes = torch.cat([corners.min(1).values, corners.max(1).values], dim=1)
    case = {
        'input': torch.randn(2, 70, 50, 60, generator=generator),
        'rois': torch.cat([torch.arange(50)[:, None] % 2, boxes], dim=1),
        'output_size': 7,
    }
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(forward_and_backward(roi_align, case))
    finally:
        torch.set_num_threads(threads)
    for crops, gradient in results[1:]:
        assert torch.equal(crops, results[0][0])
        assert torch.equal(gradient, results[0][1])


@pytest.mark.parametrize(
    'box',
    [
        (9.0, 2.0, 3.0, 8.0),
        (3.0, 8.0, 9.0, 2.0),
        (9.0, 8.0, 3.0, 2.0),
        (4.0, 4.0, 4.0, 4.0),
        (math.nan, 2.0, 9.0, 8.0),
        (1.0, 2.0, math.nan, 8.0),
        (-math.inf, 2.0, math.inf, 8.0),
        (1.0, -math.inf, 9.0, 8.0),
        (-1e30, -1e30, 1e30, 1e30),
        (1e8, 1e8, 1e8 + 64, 1e8 + 64),
        (3e38, 3e38, 3.4e38, 3.4e38),
    ],
)
def test_boxes_without_samples_on_the_map(box):
    """With sampling_ratio=0 they give 0, and do not take up other RoIs' time or memory."""
    input = torch.rand(1, 3, 12, 16) + 1
    rois = torch.tensor([[0, 2.0, 2.0, 9.0, 9.0], [0, *box], [0, 1.0, 3.0, 9.0, 8.0]])
    crops = roi_align(input, rois, (4, 3))
    assert (crops[1] == 0).all()
    assert torch.equal(crops[::2], roi_align(input, rois[::2], (4, 3)))
    gradient = torch.ops.mmbanet.roi_align_backward(
        torch.ones_like(crops), rois, 1, 12, 16, 1.0, 0, True
    )
    assert gradient.isfinite().all()


def test_boxes_much_larger_than_the_map():
    """Only the samples on the map are visited."""
    input = torch.ones(1, 1, 12, 16)
    crops = roi_align(input, torch.tensor([[0, -1e8, -1e8, 1e8, 1e8]]), 2)
    torch.testing.assert_close(crops, torch.zeros_like(crops), rtol=0, atol=1e-10)
    torch.testing.assert_close(
        roi_align(input, torch.tensor([[0, -4e3, -4e3, 4e3, 4e3]]), 1),
        torch.full((1, 1, 1, 1), 14 * 18 / 8000**2),
        rtol=0.02,
        atol=0,
    )


@pytest.mark.parametrize('box', [(9.0, 2.0, 3.0, 8.0), (4.0, 4.0, 4.0, 4.0)])
def test_reversed_and_empty_boxes_with_a_fixed_number_of_samples(box):
    """As mmcv does it on CUDA: the samples lie where the formula says."""
    input = torch.rand(1, 3, 12, 16, dtype=torch.float64)
    rois = torch.tensor([[0, *box]], dtype=torch.float64)
    crops = roi_align(input, rois, (4, 3), sampling_ratio=2)
    torch.testing.assert_close(crops, by_samples(input, rois, (4, 3), 1.0, 2, True))


def test_non_finite_pixels_stay_where_they_are():
    input = torch.ones(1, 2, 8, 8)
    input[0, 0, 7, 7] = math.nan
    input[0, 1, 0, 0] = math.inf
    rois = torch.tensor([[0, 1.5, 1.5, 6.5, 6.5], [0, 0.0, 0.0, 8.0, 8.0]])
    crops = roi_align(input, rois, 2)
    torch.testing.assert_close(crops[0], torch.ones(2, 2, 2))
    assert crops[1, 0].isnan().tolist() == [[False, False], [False, True]]
    assert crops[1, 1].isinf().tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize('shape', [(2, 3, 0, 4), (2, 3, 4, 0), (2, 0, 4, 4), (2, 3, 4, 4)])
@pytest.mark.parametrize('num_rois', [0, 2])
def test_nothing_to_do(shape, num_rois):
    input = torch.zeros(shape).requires_grad_()
    crops = roi_align(input, torch.zeros(num_rois, 5), 2)
    crops.sum().backward()
    assert crops.shape == (num_rois, shape[1], 2, 2)
    assert not crops.any()
    assert input.grad.shape == shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_cuda_without_rois():
    input = torch.zeros(2, 3, 4, 4, device='cuda', requires_grad=True)
    crops = roi_align(input, torch.zeros(0, 5, device='cuda'), 2)
    crops.sum().backward()
    assert crops.shape == (0, 3, 2, 2)
    assert input.grad.shape == input.shape


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
def test_registrations(layout):
    case = random_case(5)
    input = LAYOUTS[layout](case['input']).requires_grad_()
    arguments = (input, case['rois'], *case['output_size'], case['spatial_scale'], 0, True)
    torch.library.opcheck(torch.ops.mmbanet.roi_align, arguments)
    crops = torch.ops.mmbanet.roi_align(*arguments).detach().requires_grad_()
    sizes = input.shape[0], *input.shape[-2:]
    torch.library.opcheck(
        torch.ops.mmbanet.roi_align_backward,
        (crops, case['rois'], *sizes, case['spatial_scale'], 0, True),
    )


def test_compile():
    case = random_case(5)
    torch.compiler.reset()
    compiled = torch.compile(roi_align, backend='aot_eager', fullgraph=True, dynamic=True)
    assert torch.equal(compiled(**case), roi_align(**case))


@pytest.mark.parametrize(
    ('changed', 'error', 'message'),
    [
        ({'input': 1}, TypeError, 'input must be a torch.Tensor, got int'),
        ({'rois': None}, TypeError, 'rois must be a torch.Tensor, got NoneType'),
        ({'input': torch.zeros(2, 4, 4)}, ValueError, r'input must have shape \(N, C, H, W\)'),
        ({'input': torch.zeros(1, 2, 4, 4).int()}, TypeError, 'input must be float64.*Int'),
        ({'rois': torch.zeros(2, 4)}, ValueError, r'rois must have shape \(K, 5\).*\[2, 4\]'),
        ({'rois': torch.zeros(2, 5).bool()}, TypeError, 'rois must have a floating.* got Bool'),
        ({'rois': torch.zeros(2, 5).cfloat()}, TypeError, 'rois must have a floating.* Complex'),
        ({'rois': torch.full((2, 5), 1.0)}, ValueError, r'rois\[0, 0\] must be an image index'),
        ({'rois': torch.full((2, 5), -1.0)}, ValueError, r'rois\[0, 0\] .* \[0, 1\), got -1'),
        ({'rois': torch.full((2, 5), math.nan)}, ValueError, r'rois\[0, 0\] .* got nan'),
        ({'output_size': 7.0}, TypeError, 'output_size must be two ints .* got 7.0'),
        ({'output_size': 0}, ValueError, r'output_size\[0\] must be between 1 .* got 0'),
        ({'spatial_scale': 0.0}, ValueError, 'spatial_scale must be positive and finite, got 0'),
        ({'spatial_scale': '1'}, TypeError, 'spatial_scale must be a number, got str'),
        ({'sampling_ratio': 2.0}, TypeError, 'sampling_ratio must be an int, got float'),
        ({'sampling_ratio': True}, TypeError, 'sampling_ratio must be an int, got bool'),
        ({'output_size': True}, TypeError, 'output_size must be two ints .* got True'),
        ({'sampling_ratio': 10**9}, ValueError, 'sampling_ratio must be at most 1024, got 10+'),
        ({'aligned': 1}, TypeError, 'aligned must be a bool, got int'),
    ],
)
def test_wrong_argument(changed, error, message):
    case = {'input': torch.zeros(1, 2, 4, 4), 'rois': torch.zeros(2, 5), 'output_size': 7}
    with pytest.raises(error, match=message):
        roi_align(**{**case, **changed})


def test_module():
    case = random_case(5)
    options = ('output_size', 'spatial_scale', 'sampling_ratio', 'aligned')
    module = RoIAlign(**{name: case[name] for name in options})
    assert torch.equal(module(case['input'], case['rois']), roi_align(**case))
    assert RoIAlign(7).output_size == (7, 7)
    assert 'sampling_ratio=0' in repr(RoIAlign(7))
    with pytest.raises(ValueError, match="pool_mode must be 'avg', got 'max'"):
        RoIAlign(7, pool_mode='max')


@pytest.mark.parametrize('number', [np.int64, torch.tensor])
def test_sizes_are_what_has_index(number):
    case = random_case(5)
    expected = roi_align(**{**case, 'output_size': 7, 'sampling_ratio': 2})
    for size in (number(7), (number(7), number(7)), torch.Size([7, 7])):
        crops = roi_align(**{**case, 'output_size': size, 'sampling_ratio': number(2)})
        assert torch.equal(crops, expected)
        assert RoIAlign(size).output_size == (7, 7)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_rois_of_any_real_dtype(dtype):
    case = random_case(5)
    case['rois'] = case['rois'].clamp(0, 200).round()
    crops = roi_align(**{**case, 'rois': case['rois'].to(dtype)})
    assert torch.equal(crops, roi_align(**case))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mmcv_which_has_no_bfloat16_gets_float32(dtype, monkeypatch):
    """Of tensors that are said to be on a GPU."""
    seen = []

    def of_mmcv(input, rois, *_):
        seen.append((input.dtype, rois.dtype))
        return input.new_zeros(len(rois), input.shape[1], 7, 7)

    monkeypatch.setattr('mmcv.ops.roi_align', of_mmcv)
    with FakeTensorMode():
        input = torch.zeros(1, 2, 9, 9, dtype=dtype, device='cuda')
        crops = roi_align(input, torch.zeros(3, 5, device='cuda'), 7)
    wanted = torch.float32 if dtype == torch.bfloat16 else dtype
    assert seen == [(wanted, wanted)]
    assert (crops.dtype, crops.shape) == (dtype, (3, 2, 7, 7))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('layout', LAYOUTS)
def test_cuda_takes_mmcv(layout):
    for seed in range(20):
        case = random_case(seed)
        on_cuda = {**case, 'input': LAYOUTS[layout](case['input'].cuda())}
        on_cuda['rois'] = case['rois'].cuda()
        torch.testing.assert_close(
            roi_align(**on_cuda).cpu(), roi_align(**case), rtol=1e-4, atol=1e-4
        )
