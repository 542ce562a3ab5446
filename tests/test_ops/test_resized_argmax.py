"""resized_argmax: against the definition in float64, F.interpolate and torch.argmax."""

import pytest
import torch
from torch.nn import functional as F

from mmbanet.ops import bilinear_matrix, resized_argmax

from . import reference
from .samples import DTYPES, random_resize

LAYOUTS = {
    'contiguous': torch.Tensor.contiguous,
    'channels_last': lambda maps: maps.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    'transposed': lambda maps: maps.transpose(1, 2).contiguous().transpose(1, 2),
    'every_second': lambda maps: maps.repeat_interleave(2, 2)[:, :, ::2],
    'part_of_larger': lambda maps: F.pad(maps, (1, 2, 3, 1, 2, 1), value=9.0)[2:-1, 3:-1, 1:-2],
}


def regret(classes, logits, rows=None, cols=None):
    """See reference.argmax_regret; also checks the classes' range, dtype and device."""
    assert classes.dtype == torch.int32
    assert classes.device == logits.device
    assert classes.is_contiguous()
    assert ((classes >= 0) & (classes < len(logits))).all()
    matrices = (None if matrix is None else matrix.cpu() for matrix in (rows, cols))
    return reference.argmax_regret(classes.cpu(), logits.cpu().double(), *matrices)


def rounding(dtype):
    """Of sums of up to 24 x 24 terms."""
    return 100 * torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('first_seed', range(0, 200, 50))
def test_agrees_with_definition(first_seed, dtype, device):
    for seed in range(first_seed, first_seed + 50):
        case = random_resize(seed, dtype, device)
        assert regret(resized_argmax(**case), **case) <= rounding(dtype), seed


def test_regret_of_wrong_classes():
    """The control: other classes, and those of the nearest pixels, are far off."""
    logits = torch.randn(7, 9, 11, generator=torch.Generator().manual_seed(0))
    rows, cols = bilinear_matrix(9, 30), bilinear_matrix(11, 25)
    classes = resized_argmax(logits, rows, cols)
    nearest_rows = (rows == rows.amax(1, keepdim=True)).float()
    for wrong in ((classes + 1) % 7, classes.flip(0), resized_argmax(logits, nearest_rows, cols)):
        assert regret(wrong, logits, rows, cols) > 0.01


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
def test_layouts_make_no_difference(dtype, layout, device):
    for seed in range(50):
        case = random_resize(seed, dtype, device)
        other = {**case, 'logits': LAYOUTS[layout](case['logits'])}
        if case['cols'] is not None:
            other['cols'] = case['cols'].T.contiguous().T
        assert torch.equal(resized_argmax(**other), resized_argmax(**case)), seed


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('shape', [(1, 1, 1), (5, 1, 9), (133, 37, 61), (17, 70, 90)], ids=str)
def test_identity_is_argmax(shape, dtype, layout, device):
    """With ties: few different values, of which the first of the largest wins."""
    generator = torch.Generator().manual_seed(0)
    for high in (2, 1000):
        logits = torch.randint(high, shape, generator=generator).to(device, dtype)
        classes = resized_argmax(LAYOUTS[layout](logits))
        assert torch.equal(classes, logits.argmax(0).int())


@pytest.mark.parametrize('width', [1, 2, 3, 4, 5, 20])
def test_ties_of_resized_maps(width, device):
    """Sums of small integers are exact."""
    generator = torch.Generator().manual_seed(width)
    logits = torch.randint(2, (67, 20, 20), generator=generator).float().to(device)
    band = torch.ones(20, 20, device=device).triu().tril(width - 1)
    values = band @ logits @ band.T
    assert torch.equal(resized_argmax(logits, band, band), values.argmax(0).int())


@pytest.mark.parametrize(
    'sizes',
    [
        [(25, 42), (100, 168), (100, 167), (60, 100)],
        [(25, 38), (100, 152), (98, 150), (214, 320)],
        [(20, 20), (13, 7), (13, 7), (30, 31)],
        [(1, 1), (4, 4), (3, 2), (5, 6)],
    ],
    ids=str,
)
def test_agrees_with_two_interpolations_and_a_crop(sizes, device):
    """As a model resizes logits to the padded image, crops the padding and resizes to the image."""
    size, padded, cropped, final = sizes
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(133, *size, generator=generator).to(device)

    def interpolate(maps, size):
        return F.interpolate(maps[None], size=size, mode='bilinear', align_corners=False)[0]

    maps = interpolate(interpolate(logits, padded)[:, : cropped[0], : cropped[1]], final)
    rows, cols = (
        bilinear_matrix(cropped[axis], final[axis], device=device)
        @ bilinear_matrix(size[axis], padded[axis], device=device)[: cropped[axis]]
        for axis in (0, 1)
    )
    classes = resized_argmax(logits, rows, cols)
    chosen = maps.gather(0, classes[None].long())[0]
    torch.testing.assert_close(chosen, maps.amax(0), rtol=1e-5, atol=1e-5)
    assert (classes == maps.argmax(0)).float().mean() > 0.999


@pytest.mark.parametrize(
    ('size', 'new_size'), [(7, 20), (20, 7), (1, 5), (5, 1), (6, 6), (200, 97)]
)
def test_bilinear_matrix(size, new_size, device):
    matrix = bilinear_matrix(size, new_size, device=device)
    assert matrix.shape == (new_size, size)
    assert matrix.dtype == torch.float32
    assert matrix.device.type == device
    signal = torch.randn(1, 1, size, 1, generator=torch.Generator().manual_seed(0)).to(device)
    expected = F.interpolate(signal, size=(new_size, 1), mode='bilinear', align_corners=False)
    torch.testing.assert_close(matrix @ signal[0, 0], expected[0, 0])


def test_antialiased_downscaling(device):
    """Windows that are much wider than those of bilinear upscaling."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(33, 90, 70, generator=generator).to(device)
    rows, cols = (
        F.interpolate(
            torch.eye(size, device=device)[None, None],
            size=(size, new_size),
            mode='bilinear',
            align_corners=False,
            antialias=True,
        )[0, 0].T
        for size, new_size in ((90, 11), (70, 13))
    )
    assert (rows != 0).sum(1).max() > 10
    classes = resized_argmax(logits, rows, cols)
    assert regret(classes, logits, rows, cols) <= rounding(torch.float32)


@pytest.mark.parametrize('dtype', DTYPES)
def test_nan_never_wins(dtype, device):
    nan, inf = torch.nan, torch.inf
    pixels = {
        (nan, -5, nan): 1,
        (1, nan, 2): 2,
        (nan, -inf, nan): 1,
        (-inf, -inf, -inf): 0,
        (nan, nan, nan): 0,
        (3, inf, nan): 1,
        (-0.0, 0.0, -1): 0,
    }
    logits = torch.tensor(list(pixels)).T[:, None].to(device, dtype)
    expected = torch.tensor([list(pixels.values())], dtype=torch.int32, device=device)
    assert torch.equal(resized_argmax(logits), expected)
    identity = torch.eye(len(pixels), device=device)
    assert torch.equal(resized_argmax(logits, cols=identity), expected)
    # The same pixels at other places in vectors of channels.
    padded = F.pad(logits, (0, 0, 0, 0, 17, 40), value=nan)
    shifted = torch.where(logits.isnan().all(0), 0, expected + 17)
    assert torch.equal(resized_argmax(padded), shifted)
    assert torch.equal(resized_argmax(padded, cols=identity), shifted)


def test_values_beyond_the_weights_do_not_count(device):
    logits = torch.full((3, 5, 5), torch.nan, device=device)
    logits[:, 1:3, 2:4] = torch.tensor([1.0, 3.0, 2.0], device=device)[:, None, None]
    rows, cols = torch.zeros(2, 5, device=device), torch.zeros(1, 5, device=device)
    rows[0, 1:3] = rows[1, 2] = cols[0, 2:4] = 0.5
    assert resized_argmax(logits, rows, cols).tolist() == [[1], [1]]


def test_largest_of_all_pixels_need_not_be_that_of_a_difference(device):
    logits = torch.tensor([[5.0, 5.0], [4.0, 0.0]], device=device)[:, None]
    weights = torch.tensor([[0.5, 0.5], [2.0, -1.0]], device=device)
    assert resized_argmax(logits, cols=weights).tolist() == [[0, 1]]
    assert resized_argmax(logits.mT, weights).tolist() == [[0], [1]]


def test_rows_of_zeros(device):
    """They make a map of zeros, of which the first is the largest, whatever the logits are."""
    logits = torch.tensor([torch.nan, 1.0, 2.0], device=device)[:, None, None].expand(3, 4, 5)
    weights = torch.tensor([[0.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], device=device)
    assert resized_argmax(logits, weights).tolist() == [[0] * 5, [2] * 5, [0] * 5]
    assert resized_argmax(logits.mT, cols=weights).tolist() == [[0, 2, 0]] * 5
    assert not resized_argmax(logits, weights * 0, torch.zeros(6, 5, device=device)).any()


def test_empty_maps(device):
    logits = torch.ones(3, 4, 5, device=device)
    assert resized_argmax(logits, logits.new_zeros(0, 4)).shape == (0, 5)
    assert resized_argmax(logits, cols=logits.new_zeros(0, 5)).shape == (4, 0)
    assert resized_argmax(logits[:, :0]).shape == (0, 5)
    logits[2] = 2
    for part, width in ((logits[:, :0], 5), (logits[:, :0, :0], 0)):  # sums of nothing
        cols = logits.new_zeros(3, width)
        assert resized_argmax(part, logits.new_zeros(2, 0), cols).tolist() == [[0] * 3] * 2


def test_threads_make_no_difference():
    cases = [random_resize(seed) for seed in range(20)]
    cases.append({'logits': torch.randn(9, 70, 90, generator=torch.Generator().manual_seed(0))})
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3, 8):
            torch.set_num_threads(number)
            results.append([resized_argmax(**case) for case in cases])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


LOGITS = torch.zeros(3, 4, 5)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ((None,), TypeError, 'logits must be a torch.Tensor, got NoneType'),
        ((LOGITS, [1.0]), TypeError, 'rows must be a torch.Tensor, got list'),
        ((LOGITS, None, 2), TypeError, 'cols must be a torch.Tensor, got int'),
        ((LOGITS[0],), ValueError, r'logits must have shape \(C, h, w\), got \[4, 5\]'),
        ((LOGITS[None],), ValueError, r'logits must have shape \(C, h, w\)'),
        ((LOGITS.int(),), TypeError, 'logits must be float64, .* got Int'),
        ((LOGITS[:0],), ValueError, "logits's number of channels must be between 1 and .* got 0"),
        ((LOGITS, torch.zeros(7, 5)), ValueError, r'rows must have shape \(H, 4\) .* \[7, 5\]'),
        ((LOGITS, torch.zeros(4)), ValueError, r'rows must have shape \(H, 4\) .* got \[4\]'),
        ((LOGITS, None, torch.zeros(5, 4)), ValueError, r'cols must have shape \(W, 5\)'),
        ((LOGITS, torch.zeros(7, 4).double()), TypeError, 'rows must be float32, got Double'),
        ((LOGITS, None, torch.zeros(7, 5).half()), TypeError, 'cols must be float32, got Half'),
    ],
)
def test_wrong_argument(arguments, error, message):
    with pytest.raises(error, match=message):
        resized_argmax(*arguments)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
def test_devices_differ():
    with pytest.raises(ValueError, match="rows must be on logits's device cuda:0, got cpu"):
        resized_argmax(LOGITS.cuda(), torch.zeros(7, 4))


@pytest.mark.parametrize('seed', range(10))
def test_opcheck(seed, device):
    case = random_resize(seed, device=device)
    torch.library.opcheck(torch.ops.mmbanet.resized_argmax.default, tuple(case.values()))


def test_compile(device):
    """Whole, once for all sizes, between other operations that have gradients."""

    def count(logits, rows, cols):
        classes = resized_argmax(logits.sin(), rows, cols)
        return logits.sum() + (classes == 1).sum(), classes

    compiled = torch.compile(count, backend='aot_eager', fullgraph=True, dynamic=True)
    for size, new_size in ((6, 9), (11, 17), (13, 8)):
        logits = torch.randn(3, size, size + 1, device=device, requires_grad=True)
        matrices = (
            bilinear_matrix(size, new_size, device=device),
            bilinear_matrix(size + 1, new_size + 2, device=device),
        )
        total, classes = compiled(logits, *matrices)
        expected_total, expected = count(logits, *matrices)
        torch.testing.assert_close(total, expected_total)
        assert torch.equal(classes, expected)
        assert not classes.requires_grad
        (gradient,) = torch.autograd.grad(total, logits)
        assert torch.equal(gradient, torch.ones_like(logits))
