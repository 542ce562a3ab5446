#!/usr/bin/env python3
"""Checks the operators on a GPU: ``python tools/dev/gpu_checks.py --build`` in a checkout.

Measures fusion, inference and a training step, too, where mmdet and mmcv's operators are installed.
Needs a CUDA build of torch, nvcc and the headers of mmcv (``--mmcv-headers`` where mmcv is not
installed), and takes ``--minutes`` at the most, the build included. Prints a line for each check
and writes them, with the hardware's name, as JSON into work_dirs/benchmarks: after every check, so
that the file is complete when the run is cut off. The exit code is 1 if any check fails.
`--device cpu` tries what needs no GPU, which tests this script and not the CUDA kernels.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_build import build
from gpu_outcomes import CheckError, Settings, SkipCheck

BENCHMARKS = Path(__file__).resolve().parents[1] / 'benchmarks'
RESULTS = Path('work_dirs/benchmarks')
STATUSES = ('PASS', 'FAIL', 'SKIP')
# For a check to stop by itself, after its time is up.
GRACE_SECONDS = 10.0
FORK = multiprocessing.get_context('fork')


class Check(NamedTuple):
    """A function of settings, and for how many seconds it may run."""

    module: str
    function: str
    seconds: float

    def run(self, settings: Settings) -> str:
        """What the function says. Loaded late: the build makes what the modules import."""
        return getattr(importlib.import_module(self.module), self.function)(settings)


# What a user has to know first comes first.
CHECKS = {
    'parity': Check('gpu_parity', 'check_parity', 120),
    'argmax': Check('gpu_parity', 'check_argmax', 30),
    'determinism': Check('gpu_execution', 'check_determinism', 30),
    'graph': Check('gpu_execution', 'check_graph', 30),
    'stream': Check('gpu_execution', 'check_stream', 30),
    'device_guard': Check('gpu_execution', 'check_device_guard', 30),
    'large_map': Check('gpu_execution', 'check_large_map', 60),
    'benchmark': Check('gpu_programs', 'check_benchmark', 90),
    'fusion': Check('gpu_programs', 'check_fusion', 40),
    'models': Check('gpu_programs', 'check_models', 90),
    'memcheck': Check('gpu_programs', 'check_memcheck', 60),
    'racecheck': Check('gpu_programs', 'check_racecheck', 60),
    'initcheck': Check('gpu_programs', 'check_initcheck', 60),
    'tests': Check('gpu_programs', 'check_tests', 120),
}


def main() -> int:
    """Builds and runs the checks; returns the exit code."""
    arguments = parse_arguments()
    start = time.monotonic()
    settings = Settings(
        arguments.device,
        arguments.sets,
        arguments.seed,
        arguments.out.resolve(),
        start + 60 * arguments.minutes,
    )
    try:
        hardware = run_apart(describe_hardware, settings)
    except CheckError as error:
        print(f'gpu_checks: {error}', file=sys.stderr)
        return 1
    print(f'gpu_checks: {hardware["device"]}, torch {torch.__version__}', flush=True)
    report = Report(settings.out, hardware, arguments.only or list(CHECKS))
    if arguments.build:
        capability, headers = hardware.get('capability'), arguments.mmcv_headers
        report.add('build', *outcome(lambda given: build(given, capability, headers), settings))
    try:
        run_apart(need_operators, settings)
    except CheckError as error:
        print(
            f'gpu_checks: mmbanet has no operators for {settings.device}: {error}', file=sys.stderr
        )
        return 1
    for name in arguments.only or CHECKS:
        if settings.time_left() < GRACE_SECONDS:
            break
        deadline = min(settings.deadline, time.monotonic() + CHECKS[name].seconds)
        own = settings._replace(deadline=deadline)
        report.add(name, *outcome(partial(run_apart, CHECKS[name].run), own))
    counts = report.counts()
    print(', '.join(f'{count} {status}' for status, count in counts.items()) + f'; {report.path}')
    return 1 if counts['FAIL'] else 0


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--build', action='store_true', help='build the operators first')
    parser.add_argument(
        '--mmcv-headers',
        type=Path,
        metavar='FOLDER',
        help="for --build: mmcv/ops/csrc/common of mmcv's sources, where mmcv is not installed",
    )
    parser.add_argument('--minutes', type=float, default=8, help='for all of it, at the most (8)')
    parser.add_argument(
        '--only', action='append', choices=list(CHECKS), metavar='NAME', help=', '.join(CHECKS)
    )
    parser.add_argument('--sets', type=int, default=10_000, help='sets of RoIs (at most 10,000)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first set (0)')
    parser.add_argument('--out', type=Path, default=RESULTS, help='folder of the JSON file')
    return parser.parse_args()


def describe_hardware(settings: Settings) -> dict[str, Any]:
    """Name, compute capability, memory and copy bandwidth (read and written) of the GPU.

    Raises CheckError if there is none.
    """
    if settings.device == 'cpu':
        return {'device': 'cpu'}
    if not torch.cuda.is_available():
        raise CheckError(f'no CUDA device is visible to torch {torch.__version__}')
    sys.path.append(str(BENCHMARKS))
    from timing import copy_bandwidth

    properties = torch.cuda.get_device_properties(0)
    return {
        'device': properties.name,
        'capability': f'{properties.major}.{properties.minor}',
        'memory_gb': round(properties.total_memory / 1e9, 1),
        'multiprocessors': properties.multi_processor_count,
        'copy_gb_per_s': round(copy_bandwidth('cuda', megabytes=1024) / 1e9, 1),
    }


def need_operators(settings: Settings) -> None:
    """Raises an error if the operators do not run on the device."""
    from gpu_parity import OPERATORS, random_set

    case = random_set(0)
    OPERATORS[0].forward(case, case['input'].to(settings.device))


class Report:
    """The JSON file; checks that were not reached are in it too."""

    def __init__(self, folder: Path, hardware: dict[str, Any], names: list[str]) -> None:
        self.path = folder / f'gpu_checks_{slug(hardware["device"])}.json'
        self.head = {
            'date': date.today().isoformat(),
            'command': ' '.join(['python', 'tools/dev/gpu_checks.py', *sys.argv[1:]]),
            **hardware,
            'torch': torch.__version__,
            'cuda': torch.version.cuda,
        }
        self.rows = {name: {'status': 'SKIP', 'detail': 'not reached'} for name in names}
        self.start = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, name: str, status: str, detail: str, seconds: float) -> None:
        """Prints a check's line and writes the file anew."""
        print(f'{status}  {name:<13} {detail} ({seconds:.0f} s)', flush=True)
        self.rows[name] = {'status': status, 'detail': detail, 'seconds': round(seconds, 1)}
        self._write()

    def counts(self) -> dict[str, int]:
        """How many checks have which status."""
        found = [row['status'] for row in self.rows.values()]
        return {status: found.count(status) for status in STATUSES}

    def _write(self) -> None:
        seconds = round(time.monotonic() - self.start, 1)
        checks = [{'name': name, **row} for name, row in self.rows.items()]
        content = {**self.head, 'seconds': seconds, 'checks': checks}
        # Whole or not at all.
        new = self.path.with_suffix('.part')
        new.write_text(json.dumps(content, indent=2) + '\n')
        os.replace(new, self.path)


def slug(name: str) -> str:
    """The name of some hardware, fit for a file's name."""
    return re.sub(r'\W+', '_', name).strip('_').lower()


def outcome(check: Callable[[Settings], str], settings: Settings) -> tuple[str, str, float]:
    """Status, detail and seconds of a check."""
    start = time.monotonic()
    try:
        status, detail = 'PASS', check(settings)
    except SkipCheck as reason:
        status, detail = 'SKIP', str(reason)
    except CheckError as error:
        status, detail = 'FAIL', str(error)
    return status, detail, time.monotonic() - start


def run_apart(function: Callable[[Settings], Any], settings: Settings) -> Any:
    """What a function returns or raises in a process of its own.

    An error of CUDA spoils the process that meets it, and the other checks are still wanted. A
    function that does not come to its end is ended some time after the deadline.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_send_outcome, args=(function, settings, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(settings.time_left() + GRACE_SECONDS):
            raise CheckError('did not come to its end')
        result = receiver.recv()
    except EOFError:
        process.join()
        raise CheckError(f'the process ended with exit code {process.exitcode}') from None
    finally:
        process.kill()
        process.join()
    if isinstance(result, Exception):
        raise result
    return result


def _send_outcome(
    function: Callable[[Settings], Any], settings: Settings, sender: Connection
) -> None:
    try:
        sender.send(function(settings))
    except (CheckError, SkipCheck) as error:
        sender.send(error)
    except Exception as error:
        sender.send(CheckError(f'{type(error).__name__}: {error}'))


if __name__ == '__main__':
    sys.exit(main())
