"""Checks on a GPU that start other programs: compute-sanitizer, benchmarks and the tests."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from gpu_outcomes import CheckError, Settings, SkipCheck, last_line, need_cuda, run_program

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / 'tools' / 'benchmarks'
TESTS = ROOT / 'tests' / 'test_ops'
PARITY = Path(__file__).with_name('gpu_parity.py')
SANITIZED_SETS = 12
# What the benchmark has to show: share of the copy bandwidth where this many bytes move, and how
# many times faster than the rival.
LEAST_BYTES, LEAST_BANDWIDTH, LEAST_SPEEDUP = 100e6, 0.6, 5.0
MODELS = ('panoptic_fpn_r50', 'banet_r50', 'banet_r50_dfm')  # ratios are to the first
# How Python, mmcv and torch say that a package or an operator is not there, or not for this device.
MISSING = re.compile(
    r"^[\w.]+: .*(No module named '(?:mm(?:cv|det|engine)|onedl|pycocotools|matplotlib)\b"
    r'|miss in module'
    r"|implementation for device \S+ not found|Could not run '\S+' with arguments from).*$",
    re.MULTILINE,
)
MOST_PROCESSES = 8  # of tests, which share the GPU


def check_sanitizer(tool: str, settings: Settings) -> str:
    """A few sets under a tool of compute-sanitizer."""
    need_cuda(settings)
    program = shutil.which('compute-sanitizer')
    if program is None:
        raise CheckError('compute-sanitizer is not on the PATH; it comes with the CUDA toolkit')
    return sanitize(program, tool, settings)


check_memcheck = partial(check_sanitizer, 'memcheck')
check_racecheck = partial(check_sanitizer, 'racecheck')
check_initcheck = partial(check_sanitizer, 'initcheck')


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
    command = [program, '--tool', tool, '--print-limit', '10000', '--log-file', str(log), *options]
    command += [sys.executable, str(PARITY), '--sets', str(sets), '--seed', str(settings.seed)]
    # Without torch's cache every tensor is an allocation that memcheck knows the end of.
    environment = {**os.environ, 'PYTORCH_NO_CUDA_MEMORY_CACHING': '1'}
    result = run_program(command, settings, env=environment)
    reports = log.read_text(errors='replace') if log.exists() else ''
    kernels = re.findall(r'^========= +at (.*)$', reports, re.MULTILINE)
    own = [kernel for kernel in kernels if 'mmbanet' in kernel]
    if own:
        raise CheckError(f'{len(own)} reports, the first at {own[0]}; see {log}')
    if result.returncode:
        raise CheckError(f'exit code {result.returncode}: {last_line(result.stdout)}; see {log}')
    if 'SUMMARY' not in reports:
        raise CheckError(f'{tool} wrote no summary; see {log}')
    log.unlink()
    ignored = f", {len(kernels)} in kernels that are not mmbanet's" if kernels else ''
    return f'{sets:,} sets, 0 reports{ignored}'


def check_benchmark(settings: Settings) -> str:
    """The benchmark's rows of the paper's Table 5 reach what is asked of them."""
    need_cuda(settings)
    return judge_benchmark(run_benchmark('roi_inlay', settings, '--seconds', '1'))


def check_fusion(settings: Settings) -> str:
    """What fusion costs, beside mmdet's and the floor of the bytes that it has to move."""
    need_cuda(settings)
    options = ['--seconds', '1', '--objects', '1', '10', '30', '100']
    return describe_fusion(run_benchmark('fusion', settings, *options))


def check_models(settings: Settings) -> str:
    """What whole models cost, beside PanopticFPN."""
    need_cuda(settings)
    options = ['--rounds', '10', '--training-steps', '5', '--models', *MODELS]
    return describe_models(run_benchmark('compare_models', settings, *options))


def run_benchmark(name: str, settings: Settings, *options: str) -> dict[str, Any]:
    """The report of a program in tools/benchmarks.

    Raises CheckError if the program fails, and SkipCheck if it lacks a package or an operator.
    """
    command = [sys.executable, str(BENCHMARKS / f'{name}.py'), *options]
    command += ['--device', settings.device, '--out', str(settings.out)]
    result = run_program(command, settings, env=environment())
    if result.returncode:
        missing = MISSING.search(result.stdout)
        if missing:
            raise SkipCheck(missing[0])
        raise CheckError(f'exit code {result.returncode}: {last_line(result.stdout)}')
    print(result.stdout, end='')
    return json.loads((settings.out / f'{name}_{settings.device}.json').read_text())


def environment() -> dict[str, str]:
    """That of programs which find mmbanet where it is not installed, but built in place."""
    known = os.environ.get('PYTHONPATH')
    return {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *([known] if known else [])])}


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


def describe_fusion(report: dict[str, Any]) -> str:
    """The times of every row."""
    rows = []
    for row in report['rows']:
        own, other = row['ms']['mmbanet'], row['ms']['mmdet']
        rows.append(
            f'{row["objects"]} objects, {row["logits"]}: {own:.2f} ms, {own / other:.2f} of '
            f"mmdet's, {own / row['floor_ms']:.1f} times the floor"
        )
    return '; '.join(rows)


def describe_models(report: dict[str, Any]) -> str:
    """The figures of the first model, and those of the others relative to them."""
    (name, first), *others = report['models'].items()
    keys = ('total_ms', 'bytes', 'training_ms', 'training_bytes')
    ms, peak, training_ms, training_peak = (first[key] for key in keys)
    rows = [
        f'{name}: inference {ms:.1f} ms, {peak / 1e6:.0f} MB; '
        f'training step {training_ms:.1f} ms, {training_peak / 1e6:.0f} MB'
    ]
    for name, row in others:
        ms, peak, training_ms, training_peak = (row[key] / first[key] for key in keys)
        rows.append(
            f'{name}: inference {ms:.2f} of its time, {peak:.2f} of its memory; '
            f'training step {training_ms:.2f}, {training_peak:.2f}'
        )
    return '; '.join(rows)


def check_tests(settings: Settings) -> str:
    """The operators' tests that need a GPU; those of mmcv's operators only where they are."""
    need_cuda(settings)
    # tests/conftest.py imports mmdet, which these tests do without.
    options = ['-q', '-p', 'no:cacheprovider', f'--confcutdir={TESTS}', '-k', 'cuda']
    left_out = ['test_cuda_kernels.py']  # they need no GPU
    if not has_mmcv_operators():
        left_out.append('test_roi_align.py')
    options += [f'--ignore={TESTS / name}' for name in left_out]
    variables = environment()
    if importlib.util.find_spec('xdist'):
        options += ['-n', str(min(os.cpu_count(), MOST_PROCESSES))]
        variables['OMP_NUM_THREADS'] = '1'
    command = [sys.executable, '-m', 'pytest', str(TESTS), *options]
    result = run_program(command, settings, cwd=ROOT, env=variables)
    if result.returncode:
        (settings.out / 'tests.log').write_text(result.stdout)
        raise CheckError(f'{describe_failures(result.stdout)}; see {settings.out / "tests.log"}')
    return last_line(result.stdout)


def has_mmcv_operators() -> bool:
    """Whether mmcv and its compiled operators are installed."""
    try:
        importlib.import_module('mmcv.ops')
    except ImportError:
        return False
    return True


def describe_failures(output: str) -> str:
    """Pytest's last line, and the tests that failed with the number of their sets."""
    failed = Counter(re.findall(r'^(?:FAILED|ERROR) (?:\S*/)?([^\s\[]+)', output, re.MULTILINE))
    counts = ', '.join(f'{name} ({count})' for name, count in failed.items())
    return last_line(output) + (f': {counts}' if counts else '')
