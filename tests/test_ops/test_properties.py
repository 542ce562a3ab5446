"""What must hold for any RoIs, however odd: agreement with the reference, and laws of the maths."""

import functools
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmbanet.ops import roi_inlay

from . import reference
from .conftest import OPERATORS
from .samples import DTYPES

REFERENCES = {
    'inlay': reference.roi_inlay,
    'upsample_sum': functools.partial(reference.roi_upsample, reduction='sum'),
    'upsample_mean': functools.partial(reference.roi_upsample, reduction='mean'),
}
# The same examples in every run of the same source files.
fixed = settings(
    max_examples=50,
    derandomize=True,
    deadline=None,
    database=None,
    # The fixtures of these tests are a device and an operator: nothing that an example changes.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# In pixels of the map. Edges are on pixels at integers, or at halves if aligned.
STARTS = st.one_of(
    st.integers(-4, 12).map(lambda number: number / 2),
    st.integers(-2000, 6000).map(lambda number: number / 1000),
)
SIDES = st.one_of(
    st.integers(1, 20).map(lambda number: number / 2),
    st.integers(1, 10000).map(lambda number: number / 1000),
)
NOT_FINITE = st.sampled_from([float('inf'), float('-inf'), float('nan')])
EXTREME = NOT_FINITE | st.sampled_from(
    [sign * value for value in (1e9, 1e30, 1e308) for sign in (1, -1)]
)


def interval(starts, sides):
    """(low, high) of a RoI on one axis."""
    return st.builds(lambda start, side: (start, start + side), starts, sides)


def mostly(usual, odd):
    """One of them, the second one time out of eight."""
    return st.sampled_from(range(8)).flatmap(lambda number: odd if number == 7 else usual)


TINY = interval(STARTS, st.sampled_from([1e-3, 0.0]))
HUGE = st.tuples(st.sampled_from([-1e9, -1e30]), STARTS | st.sampled_from([1e9, 1e30]))
UNORDERED = st.tuples(STARTS | EXTREME, STARTS | EXTREME) | st.tuples(STARTS, NOT_FINITE)
ANY = mostly(interval(STARTS, SIDES), TINY | HUGE | UNORDERED)
# The reference cannot interpolate in the narrowest: its sampling points fall on one number.
ANY_OR_NARROWEST = mostly(ANY, interval(STARTS, st.sampled_from([1e-9, 1e-14, 5e-324])))
# Exact in binary, so that whole pixels and mirroring move them without rounding.
EXACT = interval(
    st.integers(-4, 12).map(lambda number: number / 2),
    st.integers(-4, 40).map(lambda number: number / 4),
)


@st.composite
def cases(draw, axes=ANY, dtypes=(torch.float64,), scales=(1.0, 0.5, 0.0625, 2.0, 0.3)):
    """Keyword arguments of an operator on the CPU."""
    batch_size, scale = draw(st.integers(1, 2)), draw(st.sampled_from(scales))
    rois = []
    for _ in range(draw(st.integers(0, 8))):
        (x1, x2), (y1, y2) = draw(axes), draw(axes)
        image = draw(st.integers(0, batch_size - 1))
        rois.append([image, *(value / scale for value in (x1, y1, x2, y2))])
    shape = len(rois), draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return {
        'input': torch.randn(shape, generator=generator).to(draw(st.sampled_from(dtypes))),
        'rois': torch.tensor(rois, dtype=torch.float64).reshape(-1, 5),
        'batch_size': batch_size,
        'output_size': (draw(st.integers(1, 12)), draw(st.integers(1, 12))),
        'spatial_scale': scale,
        'aligned': draw(st.booleans()),
    }


def expected_map(name, case):
    arrays = {**case, 'input': case['input'].double().numpy(), 'rois': case['rois'].tolist()}
    return torch.from_numpy(REFERENCES[name](**arrays))


def cover_counts(case):
    """How many RoIs cover a pixel, of the shape of the map."""
    ones = {**case, 'input': torch.ones_like(case['input'])}
    counts = torch.zeros(case['batch_size'], ones['input'].shape[1], *case['output_size'])
    for k in range(len(case['rois'])):
        alone = {**ones, 'input': ones['input'][k : k + 1], 'rois': case['rois'][k : k + 1]}
        counts += expected_map('inlay', alone) != 0
    return counts


def on_device(operator, case, device):
    """The map on the CPU, of the operator on the device."""
    moved = {**case, 'input': case['input'].to(device), 'rois': case['rois'].to(device)}
    return operator(**moved).cpu()


def has_extent(case):
    """Whether a RoI's width and height are positive and finite."""
    boxes = case['rois'][:, 1:] * case['spatial_scale']
    sides = boxes[:, 2:] - boxes[:, :2]
    return ((sides > 0) & sides.isfinite()).all(dim=1)


@pytest.mark.parametrize('name', OPERATORS)
def test_agrees_with_reference(name, device):
    seen = Counter()

    @settings(fixed, max_examples=250)
    @given(cases())
    def check(case):
        expected = expected_map(name, case)
        output = on_device(OPERATORS[name], case, device)
        torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
        rois = case['rois'][:, 1:]
        edges = rois * case['spatial_scale'] - (0.5 if case['aligned'] else 0)
        seen.update(
            no_rois=int(len(rois) == 0),
            edge_on_pixel=int((edges % 1 == 0).any()),
            nan=int(rois.isnan().any()),
            infinite=int(rois.isinf().any()),
            huge_with_extent=int((has_extent(case) & (rois.abs() > 1e8).any(dim=1)).any()),
            without_extent=int((~has_extent(case)).any()),
            not_empty=int(expected.any()),
            overlap=int((cover_counts(case) > 1).any()),
        )

    check()
    # The examples must contain what they are there to test. How often is Hypothesis's business: it
    # also draws on the constants in the source files of the package.
    assert all(number > 0 for number in seen.values()), seen
    assert seen['overlap'] > 15, seen


@fixed
@given(case=cases())
def test_rois_without_extent_change_nothing(operator, device, case):
    """Not a bit, whatever their crops hold."""
    keep = has_extent(case)
    case['input'][~keep] = torch.nan
    others = {**case, 'input': case['input'][keep], 'rois': case['rois'][keep]}
    outputs = on_device(operator, case, device), on_device(operator, others, device)
    if device == 'cpu' or operator is roi_inlay:
        assert torch.equal(*outputs)
    else:  # sums with atomics
        torch.testing.assert_close(*outputs)


@fixed
@given(case=cases(dtypes=(torch.float64, torch.float32)))
def test_adjoint(operator, device, case):
    """<inlay(x), y> = <x, inlayᵀ(y)>."""
    input = case['input'].to(device).requires_grad_()
    output = operator(**{**case, 'input': input, 'rois': case['rois'].to(device)})
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    (gradient,) = torch.autograd.grad(output, input, weights)
    magnitude = on_device(operator, {**case, 'input': case['input'].detach().abs()}, device)
    magnitude = (magnitude * weights.cpu().abs()).double().sum()
    difference = (output * weights).double().sum() - (input * gradient).double().sum()
    assert difference.abs() <= 8 * torch.finfo(input.dtype).eps * magnitude


@fixed
@given(
    case=cases(dtypes=(torch.float64, torch.float32)),
    factors=st.tuples(st.floats(-4, 4, width=16), st.floats(-4, 4, width=16)),
)
def test_linear(operator, device, case, factors):
    """inlay(a x + b y) = a inlay(x) + b inlay(y), up to rounding of the terms."""
    a, b = factors
    x = case['input']
    y = torch.randn(x.shape, generator=torch.Generator().manual_seed(100)).to(x)

    def inlay(crops):
        return on_device(operator, {**case, 'input': crops}, device)

    difference = inlay(a * x + b * y) - (a * inlay(x) + b * inlay(y))
    magnitude = inlay((a * x).abs() + (b * y).abs())
    assert (difference.abs() <= 8 * torch.finfo(x.dtype).eps * magnitude).all()


@fixed
@given(
    case=cases(axes=ANY_OR_NARROWEST, dtypes=DTYPES),
    value=st.sampled_from([1.0, -3.0, 0.1, 1000.0]),
)
def test_constants_stay_constant(device, case, value):
    """On covered pixels, and the others are 0.

    Rounding of weights, of each addition and of the average leaves at most half a unit in the last
    place each. Halves are accumulated in float32 and rounded once, which returns the very constant.
    """
    case['input'] = torch.full_like(case['input'], value)
    output = on_device(roi_inlay, case, device)
    covered = cover_counts(case) > 0
    assert not output[~covered].any()
    halves = case['input'].dtype in (torch.float16, torch.bfloat16)
    rounding = 0 if halves else (len(case['rois']) + 3) * torch.finfo(output.dtype).eps
    expected = torch.full_like(output, value)[covered]
    torch.testing.assert_close(output[covered], expected, rtol=rounding, atol=0)


@fixed
@given(case=cases(axes=ANY_OR_NARROWEST, dtypes=(torch.float64, torch.float32)))
def test_never_beyond_the_crops(device, case):
    """Interpolation and averages stay between the least and the greatest value, up to rounding."""
    covered = on_device(roi_inlay, case, device)[cover_counts(case) > 0]
    if len(covered) > 0:
        low, high = case['input'].aminmax()
        eps = torch.finfo(covered.dtype).eps
        rounding = (len(case['rois']) + 3) * eps * case['input'].abs().max()
        assert low - rounding <= covered.min()
        assert covered.max() <= high + rounding


@fixed
@given(
    case=cases(axes=EXACT, scales=(1.0, 0.25)),
    shift=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_moves_with_the_rois(operator, device, case, shift):
    """RoIs that move by whole pixels of the map take their pixels along."""
    right, down = shift
    scale, (height, width) = case['spatial_scale'], case['output_size']
    offset = torch.tensor([0, right, down, right, down]) / scale
    moved = {
        **case,
        'rois': case['rois'] + offset,
        'output_size': (height + down, width + right),
    }
    output = on_device(operator, moved, device)[..., down:, right:]
    expected = on_device(operator, case, device)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


@fixed
@given(case=cases(axes=EXACT, scales=(1.0, 0.25)), axis=st.sampled_from([2, 3]))
def test_mirrors(operator, device, case, axis):
    """Mirrored RoIs and crops give the mirrored map, vertically and horizontally."""
    case['aligned'] = True  # pixel p covers p to p + 1 on the image's scale: symmetric
    low, high = (2, 4) if axis == 2 else (1, 3)
    extent = case['output_size'][axis - 2] / case['spatial_scale']
    rois = case['rois'].clone()
    rois[:, low], rois[:, high] = extent - case['rois'][:, high], extent - case['rois'][:, low]
    mirrored = {**case, 'input': case['input'].flip(axis), 'rois': rois}
    output = on_device(operator, mirrored, device).flip(axis)
    expected = on_device(operator, case, device)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


@fixed
@given(case=cases().filter(lambda case: len(case['rois']) > 0), data=st.data())
def test_first_bad_image_index_is_named(operator, case, data):
    """On the CPU, whatever the boxes are."""
    number = len(case['rois'])
    bad = data.draw(st.sets(st.integers(0, number - 1), min_size=1))
    batch_size = case['batch_size']
    values = [-1.0, -1e-9, batch_size, batch_size + 0.5, 1e30, -1e30, *map(float, ('nan', 'inf'))]
    for index in bad:
        case['rois'][index, 0] = data.draw(st.sampled_from(values))
    with pytest.raises(ValueError, match=rf'rois\[{min(bad)}, 0\] must be an image index'):
        operator(**case)
