"""The CUDA kernels without a GPU: run on the CPU, thread by thread, and compiled with nvcc."""

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from . import reference
from .samples import random_case, random_resize, small_case

ROOT = Path(__file__).resolve().parents[2]
HARNESS = Path(__file__).parent / 'cuda_on_host' / 'operators.cpp'
COMPILER = shutil.which('c++')
NVCC = shutil.which('nvcc')


@pytest.fixture(scope='module')
def kernels(tmp_path_factory):
    """The CUDA kernels, compiled for the CPU."""
    if COMPILER is None:
        pytest.skip('needs a C++ compiler')
    library = tmp_path_factory.mktemp('cuda_on_host') / 'operators.so'
    flags = ['-std=c++17', '-O1', '-shared', '-fPIC', '-Wno-unknown-pragmas']
    subprocess.run([COMPILER, *flags, str(HARNESS), '-o', str(library)], check=True)
    return ctypes.CDLL(str(library))


class HostCase(ctypes.Structure):
    """The harness's ``Case``."""

    _fields_ = (
        ('rois', ctypes.c_void_p),
        ('num_rois', ctypes.c_int),
        ('batch_size', ctypes.c_int64),
        ('channels', ctypes.c_int64),
        *((name, ctypes.c_int) for name in ('crop_height', 'crop_width', 'height', 'width')),
        ('spatial_scale', ctypes.c_double),
        ('aligned', ctypes.c_bool),
        ('channels_last', ctypes.c_bool),
    )


def run(kernel, case, layout, features, *results):
    """Calls a function of the harness; features and results are brought into the layout.

    Returns the results, which the harness writes over what they hold.
    """
    rois = case['rois'].double().contiguous()
    channels, *crop_size = case['input'].shape[1:]
    host_case = HostCase(
        rois.data_ptr(),
        len(rois),
        case['batch_size'],
        channels,
        *crop_size,
        *case['output_size'],
        case['spatial_scale'],
        case['aligned'],
        layout == torch.channels_last,
    )
    tensors = [
        tensor.contiguous(memory_format=layout)
        if tensor is not None and tensor.dim() == 4
        else tensor
        for tensor in (features, *results)
    ]
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    kernel(ctypes.byref(host_case), *map(ctypes.c_void_p, pointers))
    return tensors[1:]


def forward_and_backward(name, case, mean=False):
    """Output and input gradient of the CPU operator, and the output gradient that was used."""
    input = case['input'].clone().requires_grad_()
    options = (mean,) if name == 'roi_upsample' else ()
    output = getattr(torch.ops.mmbanet, name)(
        input,
        case['rois'],
        case['batch_size'],
        *case['output_size'],
        case['spatial_scale'],
        case['aligned'],
        *options,
    )
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    (gradient,) = torch.autograd.grad(output, input, weights)
    return output.detach(), gradient, weights


def large_case(channels=11, num_rois=300):
    """More RoIs than a block lists at a time, more than one tile each way, many on one page."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(num_rois, 2, generator=generator) * 45 - 5
    sides = torch.rand(num_rois, 2, generator=generator) * 25
    images = torch.randint(0, 2, (num_rois, 1), generator=generator)
    return {
        'input': torch.randn(num_rois, channels, 3, 4, generator=generator),
        'rois': torch.cat([images, corners, corners + sides], dim=1),
        'batch_size': 2,
        'output_size': (37, 40),
        'spatial_scale': 1.0,
        'aligned': True,
    }


def many_channels_case(channels):
    """More channels than a block makes at a time, whole vectors of them or not; empty tiles."""
    return {**large_case(channels, 3), 'output_size': (33, 100)}


def wide_crop_case():
    """Crops of more points than a warp makes at a time, from RoIs smaller and larger than them."""
    generator = torch.Generator().manual_seed(0)
    return {
        'input': torch.randn(4, 9, 2, 61, generator=generator),
        'rois': torch.tensor(
            [[0, 1, 2, 62, 4], [0, -30, 0, 200, 60], [0, 3, 3, 20, 9], [0, 40, 0, 41, 30]]
        ).float(),
        'batch_size': 1,
        'output_size': (20, 90),
        'spatial_scale': 1.0,
        'aligned': False,
    }


CASES = {
    'small': small_case(torch.float32),
    'large': large_case(),
    'channels_136': many_channels_case(136),
    'channels_137': many_channels_case(137),
    'wide_crop': wide_crop_case(),
    **{f'seed_{seed}': random_case(seed) for seed in range(40)},
}
LAYOUTS = [torch.contiguous_format, torch.channels_last]
all_cases = pytest.mark.parametrize('case', CASES.values(), ids=CASES.keys())


def run_inlay(kernels, case, layout, weights):
    """Output and input gradient; filled with NaN, since every element has to be written."""
    suffix = 'double' if case['input'].dtype == torch.float64 else 'float'
    size = (case['batch_size'], case['input'].shape[1], *case['output_size'])
    forward = getattr(kernels, f'roi_inlay_{suffix}')
    backward = getattr(kernels, f'roi_inlay_backward_{suffix}')
    return (
        *run(forward, case, layout, case['input'], case['input'].new_full(size, torch.nan)),
        *run(backward, case, layout, weights, torch.full_like(case['input'], torch.nan)),
    )


def assert_inlay_agrees(kernels, case, tolerance, gradient_tolerance):
    """With the CPU operator, in both layouts, which give the same bits."""
    expected_output, expected_gradient, weights = forward_and_backward('roi_inlay', case)
    results = [run_inlay(kernels, case, layout, weights) for layout in LAYOUTS]
    for output, gradient in results:
        torch.testing.assert_close(output, expected_output, **tolerance)
        torch.testing.assert_close(gradient, expected_gradient, **gradient_tolerance)
    assert all(map(torch.equal, *results))


@all_cases
def test_roi_inlay(kernels, case):
    assert_inlay_agrees(kernels, case, dict(rtol=1e-5, atol=1e-5), dict(rtol=1e-4, atol=1e-5))


@pytest.mark.parametrize('seed', range(40, 50))
def test_roi_inlay_in_double(kernels, seed):
    case = random_case(seed, torch.float64)
    assert_inlay_agrees(kernels, case, dict(rtol=1e-12, atol=1e-12), dict(rtol=1e-11, atol=1e-11))


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
@pytest.mark.parametrize('mean', [False, True])
@all_cases
def test_roi_upsample(kernels, case, mean, layout):
    expected, expected_gradient, weights = forward_and_backward('roi_upsample', case, mean)
    counts = torch.zeros(expected[:, 0].shape, dtype=torch.int32)
    zeros, nans = torch.zeros_like(expected), expected_gradient * torch.nan
    output, _ = run(kernels.roi_upsample, case, layout, case['input'], zeros, counts)
    if mean:
        output /= counts.clamp(min=1).unsqueeze(1)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    counts = counts if mean else None
    gradient, _ = run(kernels.roi_upsample_backward, case, layout, weights, nans, counts)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_bad_image_indices_are_skipped(kernels, layout):
    case = small_case(torch.float32)
    without = {**case, 'input': case['input'][:1], 'rois': case['rois'][:1]}
    expected, _, weights = forward_and_backward('roi_inlay', without)
    case['rois'][1:, 0] = torch.tensor([-0.5, 2.0, 1e30, torch.nan])
    output, gradient = run_inlay(kernels, case, layout, weights)
    torch.testing.assert_close(output, expected)
    assert gradient[0].any()
    assert not gradient[1:].any()


@pytest.mark.parametrize(
    'box', [(-1e30, -1e30, 1e30, 1e30), (torch.nan, 0, 9, 9), (5, 5, 5 + 1e-6, 9), (-9, -9, 200, 3)]
)
def test_extreme_boxes(kernels, box):
    case = small_case(torch.float32)
    case['rois'][0, 1:] = torch.tensor(box)
    test_roi_inlay(kernels, case)


def test_order_of_rois(kernels):
    """Bitwise; the boxes differ, so their values give one order."""
    case = large_case()
    _, _, weights = forward_and_backward('roi_inlay', case)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    shuffled = {**case, 'input': case['input'][order], 'rois': case['rois'][order]}
    output, gradient = run_inlay(kernels, case, torch.contiguous_format, weights)
    other, other_gradient = run_inlay(kernels, shuffled, torch.contiguous_format, weights)
    assert torch.equal(output, other)
    assert torch.equal(gradient[order], other_gradient)


class HostResize(ctypes.Structure):
    """The harness's ``HostResize``."""

    _fields_ = (
        ('matrix', ctypes.c_void_p),
        ('outputs', ctypes.c_int64),
        ('inputs', ctypes.c_int),
    )


def run_argmax(kernels, logits, rows, cols):
    """The classes; filled with -1, since every one has to be written."""
    resizes = [
        HostResize(None, size, size)
        if matrix is None
        else HostResize(matrix.data_ptr(), *matrix.shape)
        for matrix, size in zip((rows, cols), logits.shape[1:])
    ]
    classes = torch.full([resize.outputs for resize in resizes], -1, dtype=torch.int32)
    suffix = 'double' if logits.dtype == torch.float64 else 'float'
    strides = (ctypes.c_int64 * 3)(*logits.stride())
    getattr(kernels, f'resized_argmax_{suffix}')(
        ctypes.c_void_p(logits.data_ptr()),
        len(logits),
        strides,
        *map(ctypes.byref, resizes),
        ctypes.c_void_p(classes.data_ptr()),
    )
    return classes


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_resized_argmax(kernels, dtype):
    for seed in range(100):
        case = random_resize(seed, dtype)
        case = {
            name: case[name] if case[name] is None else case[name].contiguous() for name in case
        }
        regret = reference.argmax_regret(run_argmax(kernels, **case), **case)
        assert regret <= 100 * torch.finfo(dtype).eps, seed
        strided = case['logits'].permute(2, 0, 1).contiguous().permute(1, 2, 0)
        results = run_argmax(kernels, **{**case, 'logits': strided}), run_argmax(kernels, **case)
        assert torch.equal(*results), seed


def test_resized_argmax_ties_and_nan(kernels):
    """As the CPU operator decides them."""
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([0.0, 1.0, torch.nan, -torch.inf])
    logits = values[torch.randint(4, (5, 30, 30), generator=generator)]
    rows = torch.eye(30)
    rows[7] = 0
    for matrix in (None, rows):
        expected = torch.ops.mmbanet.resized_argmax(logits, matrix, matrix)
        assert torch.equal(run_argmax(kernels, logits, matrix, matrix), expected)


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason='needs nvcc')
@pytest.mark.parametrize('arch', ['sm_75', 'sm_120'])
def test_compiles_with_nvcc(tmp_path, arch):
    """All CUDA sources as one, since torch's headers take a minute; to PTX, a third of the time.

    The oldest and the newest GPUs that nvcc knows; no line of ours is for one of them alone.

    nvcc checks the host's code, too.
    """
    # A CPU build of torch has no such header, which only says how torch was built.
    stub = tmp_path / 'c10' / 'cuda' / 'impl' / 'cuda_cmake_macros.h'
    stub.parent.mkdir(parents=True)
    stub.write_text('#define C10_CUDA_BUILD_SHARED_LIBS\n')
    sources = sorted((ROOT / 'ops' / 'cuda').glob('*.cu'))
    assert sources
    unit = tmp_path / 'all.cu'
    unit.write_text(''.join(f'#include "{source}"\n' for source in sources))
    mmcv = Path(importlib.util.find_spec('mmcv').origin).parent
    includes = [*include_paths(), str(mmcv / 'ops' / 'csrc' / 'common')]
    if torch.version.cuda is None:
        includes.append(str(tmp_path))
    flags = [f'-arch={arch}', '--expt-relaxed-constexpr', '-std=c++20', '-Werror=all-warnings']
    command = [NVCC, *flags, *(f'-isystem={path}' for path in includes), '-ptx', str(unit)]
    result = subprocess.run(
        [*command, '-o', str(tmp_path / 'all.ptx')], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
