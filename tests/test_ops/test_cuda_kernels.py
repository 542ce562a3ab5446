"""The CUDA kernels without a GPU: run on the CPU, thread by thread, and compiled with nvcc."""

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from .samples import random_case, small_case

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


def run(kernel, features, rois, channels, batch_size, crop_size, output_size, case, *results):
    """Calls a function of the harness; the results are tensors that it fills, or None."""
    rois = rois.double().contiguous()
    features = features.contiguous()
    kernel(
        ctypes.c_void_p(features.data_ptr()),
        ctypes.c_void_p(rois.data_ptr()),
        *(ctypes.c_int64(size) for size in (len(rois), batch_size, channels)),
        *(ctypes.c_int(size) for size in (*crop_size, *output_size)),
        ctypes.c_double(case['spatial_scale']),
        ctypes.c_bool(case['aligned']),
        *(ctypes.c_void_p(None if result is None else result.data_ptr()) for result in results),
    )


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
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(output, input, weights)
    return output.detach(), gradient, weights


def large_case():
    """More RoIs than a block lists at a time, more than one tile each way and 11 channels."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=generator) * 45 - 5
    sides = torch.rand(300, 2, generator=generator) * 25
    images = torch.randint(0, 2, (300, 1), generator=generator)
    return {
        'input': torch.randn(300, 11, 3, 4, generator=generator),
        'rois': torch.cat([images, corners, corners + sides], dim=1),
        'batch_size': 2,
        'output_size': (21, 40),
        'spatial_scale': 1.0,
        'aligned': True,
    }


CASES = [small_case(torch.float32), large_case(), *(random_case(seed) for seed in range(40))]


@pytest.mark.parametrize('case', CASES)
def test_roi_inlay(kernels, case):
    output, gradient, weights = forward_and_backward('roi_inlay', case)
    channels, *crop_size = case['input'].shape[1:]
    sizes = (channels, case['batch_size'], crop_size, case['output_size'])
    # Filled with NaN, since the kernels have to write every element.
    result, grad_result = output * torch.nan, gradient * torch.nan
    run(kernels.roi_inlay, case['input'], case['rois'], *sizes, case, result)
    torch.testing.assert_close(result, output, rtol=1e-5, atol=1e-5)
    run(kernels.roi_inlay_backward, weights, case['rois'], *sizes, case, grad_result)
    torch.testing.assert_close(grad_result, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('mean', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_roi_upsample(kernels, case, mean):
    output, gradient, weights = forward_and_backward('roi_upsample', case, mean)
    channels, *crop_size = case['input'].shape[1:]
    sizes = (channels, case['batch_size'], crop_size, case['output_size'])
    result, grad_result = torch.zeros_like(output), gradient * torch.nan
    counts = torch.zeros(output[:, 0].shape, dtype=torch.int32)
    run(kernels.roi_upsample, case['input'], case['rois'], *sizes, case, result, counts)
    if mean:
        result /= counts.clamp(min=1).unsqueeze(1)
    torch.testing.assert_close(result, output, rtol=1e-4, atol=1e-4)
    run(
        kernels.roi_upsample_backward,
        weights,
        case['rois'],
        *sizes,
        case,
        grad_result,
        counts if mean else None,
    )
    torch.testing.assert_close(grad_result, gradient, rtol=1e-4, atol=1e-4)


def test_bad_image_indices_are_skipped(kernels):
    case = small_case(torch.float32)
    without = {**case, 'input': case['input'][:1], 'rois': case['rois'][:1]}
    expected, _, weights = forward_and_backward('roi_inlay', without)
    case['rois'][1:, 0] = torch.tensor([-1.0, 2.0, 1e30, torch.nan])
    result, grad_result = expected * torch.nan, case['input'] * torch.nan
    sizes = (2, 2, (3, 4), case['output_size'])
    run(kernels.roi_inlay, case['input'], case['rois'], *sizes, case, result)
    torch.testing.assert_close(result, expected)
    run(kernels.roi_inlay_backward, weights, case['rois'], *sizes, case, grad_result)
    assert grad_result[0].any()
    assert not grad_result[1:].any()


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
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    results = []
    for index in (torch.arange(300), order):
        results.append(torch.empty(2, 11, *case['output_size']))
        input, rois = case['input'][index], case['rois'][index]
        run(kernels.roi_inlay, input, rois, 11, 2, (3, 4), case['output_size'], case, results[-1])
    assert torch.equal(*results)


@pytest.mark.skipif(NVCC is None, reason='needs nvcc')
def test_compiles_with_nvcc(tmp_path):
    """All CUDA sources as one, since torch's headers take a minute."""
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
    flags = ['-arch=sm_90', '--expt-relaxed-constexpr', '-std=c++20', '-Werror=all-warnings']
    command = [NVCC, *flags, *(f'-isystem={path}' for path in includes), '-c', str(unit)]
    result = subprocess.run(
        [*command, '-o', str(tmp_path / 'all.o')], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
