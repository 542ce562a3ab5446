"""Checks of how the operators run on a GPU: repeats, graphs, streams, devices, large maps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from gpu_outcomes import CheckError, Settings, SkipCheck, need_cuda
from gpu_parity import LAYOUTS, OPERATORS, TOLERANCES, random_set, same_bits
from torch import Tensor

INLAY = OPERATORS[0]
REPEATS = 1000


def inlay_cases(settings: Settings) -> Iterator[tuple[dict[str, Any], Tensor, Tensor]]:
    """A large random case with its crops and a gradient on the device, in both layouts."""
    case = {**random_set(3), 'output_size': (90, 120)}
    generator = torch.Generator().manual_seed(settings.seed)
    crops = torch.randn(len(case['rois']), 136, 7, 7, generator=generator)
    grad = torch.randn(case['batch_size'], 136, 90, 120, generator=generator)
    case = {**case, 'input': crops, 'rois': case['rois'].to(settings.device)}
    for layout in LAYOUTS:
        yield (
            case,
            crops.to(settings.device).contiguous(memory_format=layout),
            grad.to(settings.device).contiguous(memory_format=layout),
        )


def check_determinism(settings: Settings) -> str:
    """Repeats give the same bits, whatever memory they are written to."""
    repeats = REPEATS if settings.device == 'cuda' else 10
    for case, crops, grad in inlay_cases(settings):
        expected = INLAY.forward(case, crops), INLAY.backward(case, grad)
        for _ in range(repeats):
            results = INLAY.forward(case, crops), INLAY.backward(case, grad)
            if not all(map(same_bits, expected, results)):
                raise CheckError('repeats differ')
    return f'{repeats:,} repeats x {len(LAYOUTS)} layouts, forward and backward, same bits'


def check_graph(settings: Settings) -> str:
    """A captured CUDA graph, replayed on other values, gives the bits of an eager run."""
    need_cuda(settings)
    for case, crops, grad in inlay_cases(settings):
        results = INLAY.forward(case, crops), INLAY.backward(case, grad)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            results = INLAY.forward(case, crops), INLAY.backward(case, grad)
        for _ in range(10):
            case['rois'][:, 1:].add_(torch.rand_like(case['rois'][:, 1:]))
            crops.normal_()
            grad.normal_()
            graph.replay()
            expected = INLAY.forward(case, crops), INLAY.backward(case, grad)
            if not all(map(same_bits, expected, results)):
                raise CheckError('a replay differs from an eager run')
    return f'10 replays x {len(LAYOUTS)} layouts, forward and backward, same bits as eager'


def check_stream(settings: Settings) -> str:
    """The operators wait for what came before on the current stream, and only there."""
    need_cuda(settings)
    for case, crops, grad in inlay_cases(settings):
        expected = INLAY.forward(case, crops), INLAY.backward(case, grad)
        late_crops, late_grad = torch.zeros_like(crops), torch.zeros_like(grad)
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)  # clock cycles: about a tenth of a second
            late_crops.copy_(crops)
            late_grad.copy_(grad)
            results = INLAY.forward(case, late_crops), INLAY.backward(case, late_grad)
        stream.synchronize()
        if not all(map(same_bits, expected, results)):
            raise CheckError('the operators did not run on the current stream')
    return f'{len(LAYOUTS)} layouts, forward and backward, on a stream that is behind'


def check_device_guard(settings: Settings) -> str:
    """Tensors of a GPU that is not the current one."""
    need_cuda(settings)
    if torch.cuda.device_count() < 2:
        raise SkipCheck('needs two CUDA devices')
    for case, crops, grad in inlay_cases(settings):
        expected = INLAY.forward(case, crops), INLAY.backward(case, grad)
        results = INLAY.forward(case, crops.to('cuda:1')), INLAY.backward(case, grad.to('cuda:1'))
        if not all(same_bits(*map(Tensor.cpu, pair)) for pair in zip(expected, results)):
            raise CheckError('cuda:1 differs from cuda:0')
    return f'{len(LAYOUTS)} layouts, forward and backward, same bits on cuda:1 as on cuda:0'


def check_large_map(settings: Settings) -> str:
    """A map of more than 2**31 elements: some of its channels agree with the CPU."""
    need_cuda(settings)
    channels, side = 520, 2048
    size = (1, channels, side, side)
    elements = channels * side * side
    assert elements > 2**31
    free, _ = torch.cuda.mem_get_info()
    if free < 3 * elements:  # bytes: one map in float16, and room
        raise SkipCheck(
            f'needs {3 * elements / 1e9:.1f} GB of free GPU memory, has {free / 1e9:.1f}'
        )
    generator = torch.Generator().manual_seed(settings.seed)
    corners = torch.rand(20, 2, generator=generator) * side
    corners[0] = side - 100  # the end of the map
    rois = torch.cat([torch.zeros(20, 1), corners, corners + 150], dim=1)
    crops = torch.randn(20, channels, 14, 14, generator=generator).half()
    case = {**random_set(0), 'input': crops, 'rois': rois, 'batch_size': 1}
    case |= {'output_size': size[2:], 'spatial_scale': 1.0, 'aligned': True}
    sampled = [0, 1, channels // 2, 511, 512, channels - 1]  # 2**31 elements are 512 channels
    expected = INLAY.forward(case, crops[:, sampled].double())
    for layout in LAYOUTS:
        output = INLAY.forward(case, crops.to('cuda').contiguous(memory_format=layout))
        compare_halves(output[:, sampled], expected, f'{layout}, forward')
        grad = output.normal_()
        result = INLAY.backward(case, grad)[:, sampled]
        wanted = INLAY.backward(case, grad[:, sampled].cpu().double())
        compare_halves(result, wanted, f'{layout}, backward')
        del output, grad
    return f'{elements:,} elements, {len(sampled)} channels x {len(LAYOUTS)} layouts agree'


def compare_halves(result: Tensor, expected: Tensor, name: str) -> None:
    """Raises CheckError if they differ by more than float16 and its sums explain."""
    error = (result.cpu().double() - expected).abs()
    # A sum over a RoI's pixels has rounding errors beside that of its own value.
    allowed = TOLERANCES[torch.float16] * expected.abs().clamp(min=1)
    if not (error <= allowed).all():
        raise CheckError(f'{name}: off by {error.max():.3g}')
