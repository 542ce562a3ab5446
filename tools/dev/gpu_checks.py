#!/usr/bin/env python3
"""Checks the operators on a GPU: ``python tools/dev/gpu_checks.py``. Needs a CUDA build of mmbanet.

Prints a line for each check and writes them, with the hardware's name, as JSON into
tools/benchmarks/results. The exit code is 1 if any check fails. `--device cpu` tries what needs no
GPU, which tests this script and not the CUDA kernels.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_parity import (
    LAYOUTS,
    OPERATORS,
    TOLERANCES,
    argmax_mismatches,
    mismatches,
    random_set,
    same_bits,
    with_bad_images,
)
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = ROOT / 'tools' / 'benchmarks' / 'roi_inlay.py'
RESULTS = BENCHMARK.parent / 'results'
INLAY = OPERATORS[0]
REPEATS = 1000
SANITIZED_SETS = 40
SECONDS_BETWEEN_LINES = 15.0
# What the benchmark has to show: share of the copy bandwidth where this many bytes move, and how
# many times faster than the rival.
LEAST_BYTES, LEAST_BANDWIDTH, LEAST_SPEEDUP = 100e6, 0.6, 5.0


class CheckError(Exception):
    """A check failed; the message says what is wrong."""


class SkipCheck(Exception):
    """A check cannot be made here; the message says why."""


class Settings(NamedTuple):
    """What the command line says."""

    device: str
    sets: int
    seed: int
    out: Path


def main() -> int:
    """Runs the checks; returns the exit code."""
    arguments = parse_arguments()
    settings = Settings(arguments.device, arguments.sets, arguments.seed, arguments.out)
    problem = missing_requirement(settings.device)
    if problem:
        print(f'gpu_checks: {problem}', file=sys.stderr)
        return 1
    print(f'gpu_checks: {hardware(settings.device)}, torch {torch.__version__}', flush=True)
    rows = [run_check(name, settings) for name in arguments.only or CHECKS]
    report = {
        'date': date.today().isoformat(),
        'device': hardware(settings.device),
        'torch': torch.__version__,
        'cuda': torch.version.cuda,
        'checks': rows,
    }
    name = re.sub(r'\W+', '_', hardware(settings.device)).strip('_').lower()
    path = settings.out / f'gpu_checks_{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + '\n')
    counts = {status: sum(row['status'] == status for row in rows) for status in STATUSES}
    print(', '.join(f'{count} {status}' for status, count in counts.items()) + f'; {path}')
    return 1 if counts['FAIL'] else 0


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument(
        '--only', action='append', choices=list(CHECKS), metavar='NAME', help=', '.join(CHECKS)
    )
    parser.add_argument('--sets', type=int, default=10_000, help='sets of RoIs (10,000)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first set (0)')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the JSON file')
    return parser.parse_args()


def missing_requirement(device: str) -> str | None:
    """Why the operators cannot run on the device, or None."""
    if device == 'cuda' and not torch.cuda.is_available():
        return f'no CUDA device is visible to torch {torch.__version__}'
    case = random_set(0)
    try:
        INLAY.forward(case, case['input'].to(device))
    except (AttributeError, NotImplementedError) as error:
        return f'mmbanet has no operators for {device}: {error}'
    return None


def hardware(device: str) -> str:
    """The name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name() if device == 'cuda' else device


def run_check(name: str, settings: Settings) -> dict[str, Any]:
    """Runs a check and prints its line."""
    start = time.monotonic()
    try:
        status, detail = 'PASS', CHECKS[name](settings)
    except SkipCheck as reason:
        status, detail = 'SKIP', str(reason)
    except CheckError as error:
        status, detail = 'FAIL', str(error)
    except Exception as error:  # such as an error of CUDA: the other checks are still wanted
        status, detail = 'FAIL', f'{type(error).__name__}: {error}'
    print(f'{status}  {name:<13} {detail} ({time.monotonic() - start:.0f} s)', flush=True)
    return {'name': name, 'status': status, 'detail': detail}


def need_cuda(settings: Settings) -> None:
    """Skips the check on the CPU."""
    if settings.device != 'cuda':
        raise SkipCheck('needs a CUDA device')


def check_parity(settings: Settings) -> str:
    """The device agrees with the CPU on random sets of RoIs, and the layouts with each other."""
    last_line = time.monotonic()
    bad_images = 0
    for seed in range(settings.seed, settings.seed + settings.sets):
        case = random_set(seed)
        # The CPU raises for them.
        if settings.device == 'cuda' and seed % 3 == 0:
            case = with_bad_images(case, seed)
            bad_images += 1
        for mismatch in mismatches(case, seed, settings.device):
            raise CheckError(mismatch)
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            print(f'      parity: {seed + 1 - settings.seed:,} of {settings.sets:,}', flush=True)
    return (
        f'{settings.sets:,} sets ({bad_images:,} with image indices out of range) x '
        f'{len(OPERATORS)} operators x 2 directions x {len(TOLERANCES)} dtypes x '
        f'{len(LAYOUTS)} layouts agree with the CPU'
    )


def check_argmax(settings: Settings) -> str:
    """resized_argmax on the device agrees with its definition."""
    for seed in range(settings.seed, settings.seed + settings.sets):
        for mismatch in argmax_mismatches(seed, settings.device):
            raise CheckError(mismatch)
    return f'{settings.sets:,} resizes x {len(TOLERANCES)} dtypes agree with the definition'


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


def sanitizer_check(tool: str) -> Callable[[Settings], str]:
    """A check that runs a few sets under a tool of compute-sanitizer."""

    def check(settings: Settings) -> str:
        need_cuda(settings)
        program = shutil.which('compute-sanitizer')
        if program is None:
            raise CheckError('compute-sanitizer is not on the PATH; it comes with the CUDA toolkit')
        return sanitize(program, tool, settings)

    return check


def sanitize(program: str, tool: str, settings: Settings) -> str:
    """Runs a few sets under compute-sanitizer; raises CheckError for its reports.

    memcheck and racecheck see the operators' own kernels only. initcheck has to see all, since it
    takes for unwritten what a kernel wrote that it did not see; of its reports those count that
    name one of the operators' kernels.
    """
    sets = min(settings.sets, SANITIZED_SETS)
    log = settings.out / f'{tool}.log'
    log.parent.mkdir(parents=True, exist_ok=True)
    filtered = ['--kernel-name', 'kns=mmbanet', '--error-exitcode', '1']
    options = [] if tool == 'initcheck' else filtered
    checks = ['--only', 'parity', '--only', 'argmax']
    checks += ['--sets', str(sets), '--seed', str(settings.seed)]
    command = [program, '--tool', tool, '--print-limit', '10000', '--log-file', str(log), *options]
    command += [sys.executable, __file__, *checks, '--out', str(log.with_suffix(''))]
    # Without torch's cache every tensor is an allocation that memcheck knows the end of.
    result = subprocess.run(
        command,
        env={**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    reports = log.read_text(errors='replace') if log.exists() else ''
    kernels = re.findall(r'^========= +at (.*)$', reports, re.MULTILINE)
    own = [kernel for kernel in kernels if 'mmbanet' in kernel]
    if own:
        raise CheckError(f'{len(own)} reports, the first at {own[0]}; see {log}')
    if result.returncode:
        raise CheckError(f'exit code {result.returncode}: {last_line(result.stdout)}; see {log}')
    if 'SUMMARY' not in reports:
        raise CheckError(f'{tool} wrote no summary; see {log}')
    shutil.rmtree(log.with_suffix(''), ignore_errors=True)
    log.unlink()
    ignored = f", {len(kernels)} in kernels that are not mmbanet's" if kernels else ''
    return f'{sets:,} sets, 0 reports{ignored}'


def last_line(output: str) -> str:
    """The last line of a program's output."""
    return (output.strip().splitlines() or ['no output'])[-1]


def check_benchmark(settings: Settings) -> str:
    """The benchmark's rows of the paper's Table 5 reach what is asked of them."""
    need_cuda(settings)
    command = [sys.executable, str(BENCHMARK), '--device', 'cuda', '--out', str(settings.out)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise CheckError(f'exit code {result.returncode}: {last_line(result.stderr)}')
    print(result.stdout, end='')
    return judge_benchmark(json.loads((settings.out / 'roi_inlay_cuda.json').read_text()))


def judge_benchmark(report: dict[str, Any]) -> str:
    """The rows' smallest shares and ratios; raises CheckError if one of them is too small."""
    bandwidth = report['copy_bandwidth_gb_per_s'] * 1e9
    shares, speedups, missed = [], [], []
    for row in report['rows']:
        if row['case'].startswith('model'):  # not one of the paper's
            continue
        times = row['forward_ms']
        share = row['floor_ms'] / times['roi_inlay']
        speedup = min(times[name] for name in times if 'upsample' in name) / times['roi_inlay']
        shares.append(share)
        speedups.append(speedup)
        if row['floor_ms'] / 1e3 * bandwidth > LEAST_BYTES and share < LEAST_BANDWIDTH:
            missed.append(f'({row["case"]}): {share:.0%} of the copy bandwidth')
        if speedup < LEAST_SPEEDUP:
            missed.append(f'({row["case"]}): {speedup:.1f} times roi_upsample')
    if missed:
        raise CheckError('; '.join(missed))
    return (
        f'{len(shares)} rows: at least {min(shares):.0%} of the copy bandwidth, at least '
        f'{min(speedups):.1f} times roi_upsample'
    )


STATUSES = ('PASS', 'FAIL', 'SKIP')
CHECKS: dict[str, Callable[[Settings], str]] = {
    'parity': check_parity,
    'argmax': check_argmax,
    'determinism': check_determinism,
    'graph': check_graph,
    'stream': check_stream,
    'device_guard': check_device_guard,
    'large_map': check_large_map,
    'memcheck': sanitizer_check('memcheck'),
    'racecheck': sanitizer_check('racecheck'),
    'initcheck': sanitizer_check('initcheck'),
    'benchmark': check_benchmark,
}

if __name__ == '__main__':
    sys.exit(main())
