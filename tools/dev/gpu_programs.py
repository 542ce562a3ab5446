"""Checks on a GPU that start other programs: compute-sanitizer, the benchmark and the tests."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from gpu_outcomes import CheckError, Settings, last_line, need_cuda, run_program

ROOT = Path(__file__).resolve().parents[2]
BENCHMARK = ROOT / 'tools' / 'benchmarks' / 'roi_inlay.py'
TESTS = ROOT / 'tests' / 'test_ops'
PARITY = Path(__file__).with_name('gpu_parity.py')
SANITIZED_SETS = 12
# What the benchmark has to show: share of the copy bandwidth where this many bytes move, and how
# many times faster than the rival.
LEAST_BYTES, LEAST_BANDWIDTH, LEAST_SPEEDUP = 100e6, 0.6, 5.0


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
    command = [sys.executable, str(BENCHMARK), '--device', 'cuda', '--seconds', '1']
    # Where mmbanet is found if it is not installed.
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = {**os.environ, 'PYTHONPATH': path}
    result = run_program([*command, '--out', str(settings.out)], settings, env=environment)
    if result.returncode:
        raise CheckError(f'exit code {result.returncode}: {last_line(result.stdout)}')
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


def check_tests(settings: Settings) -> str:
    """The operators' tests that need a GPU; those of mmcv's operators only where mmcv is."""
    need_cuda(settings)
    # tests/conftest.py imports mmdet, which these tests do without.
    options = ['-q', '-p', 'no:cacheprovider', f'--confcutdir={TESTS}', '-k', 'cuda']
    left_out = ['test_cuda_kernels.py']  # they need no GPU
    if importlib.util.find_spec('mmcv') is None:
        left_out.append('test_roi_align.py')
    options += [f'--ignore={TESTS / name}' for name in left_out]
    command = [sys.executable, '-m', 'pytest', str(TESTS), *options]
    result = run_program(command, settings, cwd=ROOT)
    if result.returncode:
        (settings.out / 'tests.log').write_text(result.stdout)
        raise CheckError(f'{last_line(result.stdout)}; see {settings.out / "tests.log"}')
    return last_line(result.stdout)
