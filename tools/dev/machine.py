"""Checks that a machine has what the set-up needs. Standard library only.

A check that fails raises :class:`console.SetupError`: what is missing and how to get it.
"""

from __future__ import annotations  # needs Python 3.10 or newer: make PYTHON=/path/to/python3.11

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from console import SetupError

OLDEST, NEWEST = (3, 10), (3, 12)
# Measured on Linux with the CPU build of torch: 2.0 GiB in .venv, 0.2 of them for a while. The CUDA
# build brings about 8 GiB more, downloads included. Once torch is there, the rest needs little.
FREE_GIB, FREE_GIB_CUDA, FREE_GIB_LATER = 4.0, 12.0, 1.5

PROGRAM = """
#include <Python.h>
#include <optional>
#include <string>
std::optional<std::string> name() { return std::string(PY_VERSION); }
"""


def check_machine(root: Path, *, torch_missing: bool = True) -> str:
    """Checks Python, the C++ compiler, the folder and the disk.

    Args:
        root: The repository, in which `.venv` is made.
        torch_missing: Whether the large part, torch, has yet to be installed.

    Returns:
        The C++ compiler's command.
    """
    check_python(sys.version_info[:2])
    check_writable(root)
    needed = FREE_GIB_CUDA if has_nvidia_gpu() else FREE_GIB
    check_disk(root, needed if torch_missing else FREE_GIB_LATER)
    return check_compiler()


def check_python(version: tuple[int, ...]) -> None:
    """Checks the running Python's version and that it can make virtual environments."""
    if not OLDEST <= version <= NEWEST:
        raise SetupError(
            f'Python 3.10, 3.11 (tested) or 3.12 is needed, but this is Python '
            f'{version[0]}.{version[1]} ({sys.executable}). Install Python 3.11 and name it: '
            'make PYTHON=python3.11 ...'
        )
    missing = [name for name in ('venv', 'ensurepip') if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupError(
            f'this Python has no {" and no ".join(missing)} module, so it cannot make a virtual '
            f'environment. On Debian or Ubuntu: apt install python3-venv'
        )


def check_writable(folder: Path) -> None:
    """Checks that files can be made in ``folder``."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SetupError(
            f'cannot write in {folder} ({error.strerror}). Clone the repository into a folder of '
            'your own'
        ) from error


def check_disk(folder: Path, gib: float) -> None:
    """Checks that ``gib`` GiB are free where ``folder`` lies."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        raise SetupError(
            f'too little disk space: {folder} has {free:.1f} GiB free, {gib:.1f} GiB are needed. '
            'Free some, or move the repository to another disk'
        )


def find_compiler() -> list[str]:
    """Returns the C++ compiler's command: ``$CXX``, else the first usual name on the path."""
    if os.environ.get('CXX'):
        return shlex.split(os.environ['CXX'])
    for name in ('c++', 'g++', 'clang++'):
        if shutil.which(name):
            return [name]
    raise SetupError(
        'no C++ compiler found (c++, g++ or clang++, or the one named by CXX). On Debian or '
        'Ubuntu: apt install g++; on Fedora: dnf install gcc-c++; on macOS: xcode-select --install'
    )


def check_compiler() -> str:
    """Compiles a C++17 program that includes Python.h; returns the compiler's command."""
    compiler = find_compiler()
    include = sysconfig.get_path('include')
    if not (Path(include) / 'Python.h').is_file():
        raise SetupError(
            f'Python.h is not in {include}: install the headers of this Python (Debian or Ubuntu: '
            f'apt install python{sys.version_info[0]}.{sys.version_info[1]}-dev)'
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, 'program.cpp')
        source.write_text(PROGRAM)
        options = ['-std=c++17', '-fPIC', f'-I{include}', '-c', str(source), '-o', f'{source}.o']
        try:
            result = subprocess.run([*compiler, *options], capture_output=True, text=True)
            failed = result.returncode != 0
            complaint = (result.stderr or f'exit code {result.returncode}') if failed else ''
        except OSError as error:
            complaint = str(error)
    if complaint:
        raise SetupError(
            f'the C++ compiler {shlex.join(compiler)!r} cannot compile a C++17 program:\n'
            f'{complaint.strip()}\nInstall g++ 9 or newer (or clang++ 9), or name another with CXX'
        )
    return shlex.join(compiler)


def has_nvidia_gpu() -> bool:
    """Returns whether NVIDIA's driver is installed."""
    return shutil.which('nvidia-smi') is not None


def compile_jobs() -> int:
    """Returns how many files to compile at once: a core and 2 GiB of memory for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return max(1, min(cores or 1, memory // 2**31))
