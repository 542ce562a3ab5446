#!/usr/bin/env python3
"""Fuzzes the operators under AddressSanitizer and UBSan: what `make fuzz` calls.

Compiles the operators' CPU sources and tests/fuzz into build/fuzz, only what has changed, and runs
the program over random sets of arguments. The first report of a sanitizer or wrong result ends it
with the seed of the set, which `--seed SEED --sets 1` runs again.
"""

import argparse
import fcntl
import importlib.util
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'build' / 'fuzz'
# The last two are no part of "undefined".
SANITIZERS = '-fsanitize=address,undefined,float-divide-by-zero,float-cast-overflow'
COMPILE_FLAGS = (
    SANITIZERS,
    '-fno-sanitize-recover=all',
    '-fno-omit-frame-pointer',
    '-O1',
    '-g1',
    '-march=native',  # the vectors of this machine alone: a third of the code
    '-fopenmp',
    '-ffp-contract=off',  # the layouts' results are compared bitwise
    '-D_GLIBCXX_ASSERTIONS',  # std::vector checks its indices
)
LINK_FLAGS = (
    SANITIZERS,
    '-fopenmp',
    # Only the library's entry point for Python, which is never called, needs libpython.
    '-Wl,--defsym=PyModule_Create2=0',
)
SETS_AT_A_TIME = 2000
SECONDS_BETWEEN_LINES = 15.0


class SetupError(Exception):
    """There is no compiler with sanitizers; the message says what to do."""


class FuzzError(Exception):
    """The program ended with a report or a wrong result; the message is what it wrote."""


def find_compiler() -> list[str]:
    """Returns the C++ compiler's command: ``$CXX``, else the first usual name on the path."""
    if os.environ.get('CXX'):
        return shlex.split(os.environ['CXX'])
    for name in ('c++', 'g++', 'clang++'):
        if shutil.which(name):
            return [name]
    raise SetupError('no C++ compiler found (c++, g++ or clang++): install one or name it with CXX')


def jobs() -> int:
    """Returns how many processes to run at once: what `make` says, else a process a core."""
    return int(os.environ.get('MAX_JOBS') or len(os.sched_getaffinity(0)))


def check_sanitizers() -> None:
    """Raises SetupError if there is no C++ compiler, or none with sanitizers."""
    compiler = find_compiler()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'program.cpp')
        source.write_text('int main() {}')
        command = [*compiler, SANITIZERS, str(source), '-o', f'{source}.out']
        compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode:
        raise SetupError(
            f'the C++ compiler {shlex.join(compiler)!r} cannot link with {SANITIZERS}:\n'
            f'{compiled.stderr.strip()}\nInstall its sanitizers (Fedora: dnf install libasan '
            'libubsan), or name another compiler with CXX'
        )


def build() -> Path:
    """Compiles what has changed; returns the program."""
    from torch.utils.cpp_extension import load

    check_sanitizers()
    os.environ['CXX'] = shlex.join(find_compiler())
    os.environ['MAX_JOBS'] = str(jobs())
    # ninja lies beside the Python that runs this.
    os.environ['PATH'] = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    mmcv = Path(importlib.util.find_spec('mmcv').origin).parent
    sources = [ROOT / 'ops' / 'mmbanet_ops.cpp', *sorted((ROOT / 'ops' / 'cpu').glob('*.cpp'))]
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / 'in_use').open('w') as in_use:
        fcntl.flock(in_use, fcntl.LOCK_EX)
        # torch's own lock outlives a compilation that was killed.
        (FOLDER / 'lock').unlink(missing_ok=True)
        load(
            'fuzz_operators',
            [str(path) for path in (*sources, ROOT / 'tests' / 'fuzz' / 'fuzz_operators.cpp')],
            extra_cflags=list(COMPILE_FLAGS),
            extra_ldflags=list(LINK_FLAGS),
            extra_include_paths=[str(mmcv / 'ops' / 'csrc' / 'common')],
            build_directory=str(FOLDER),
            with_cuda=False,
            is_python_module=False,
            is_standalone=True,
        )
    return FOLDER / 'fuzz_operators'


def run_program(program: Path, *arguments: object) -> Counter:
    """Runs the program; returns its counts. Raises FuzzError if it does not end well."""
    result = subprocess.run(
        [str(program), *(str(argument) for argument in arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        # Several of these run at a time: their threads should not spin while they wait.
        env={**os.environ, 'OMP_WAIT_POLICY': 'passive'},
    )
    if result.returncode:
        raise FuzzError(f'{result.stdout.strip()}\nfuzz: exit code {result.returncode}')
    return Counter(json.loads(result.stdout))


def fuzz(program: Path, seed: int, sets: int, jobs: int) -> Counter:
    """Runs `sets` sets from `seed` on in `jobs` processes; returns the sums of their counts."""
    counts: Counter = Counter()
    last_line = time.monotonic()
    with ThreadPoolExecutor(jobs) as executor:
        runs = []
        for first in range(0, sets, SETS_AT_A_TIME):
            size = min(SETS_AT_A_TIME, sets - first)
            arguments = ('--seed', seed + first, '--sets', size)
            runs.append(executor.submit(run_program, program, *arguments))
        try:
            for run in as_completed(runs):
                counts += run.result()
                if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
                    last_line = time.monotonic()
                    print(f'fuzz: {counts["sets"]:,} of {sets:,} sets', flush=True)
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
    return counts


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sets', type=int, default=100_000, help='number of sets (100,000)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first set (0)')
    parser.add_argument('--jobs', type=int, default=jobs(), help='processes (all cores)')
    parser.add_argument('--defect', help='show that a defect is found: see fuzz_operators.cpp')
    return parser.parse_args()


def main() -> int:
    """Compiles and fuzzes; returns the exit code: 1 for a report, a wrong result or no compiler."""
    arguments = parse_arguments()
    start = time.monotonic()
    try:
        print(f'fuzz: compiling into {FOLDER.relative_to(ROOT)}', flush=True)
        program = build()
        if arguments.defect:
            run_program(program, '--defect', arguments.defect)
        counts = fuzz(program, arguments.seed, arguments.sets, arguments.jobs)
    except (FuzzError, SetupError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f'fuzz: {counts["sets"]:,} sets, 0 reports ({counts["bad_index"]:,} with a bad index, '
        f'{counts["not_finite"]:,} with NaN or infinite features, '
        f'{counts["channels_last"]:,} channels-last; '
        f'{time.monotonic() - start:.0f} s)'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
