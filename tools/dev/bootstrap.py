#!/usr/bin/env python3
"""Sets up `.venv`, from a fresh clone to an installed mmbanet: what `make setup` calls.

Seven steps. Each leaves a stamp in `.venv/bootstrap`, the hash of what it depends on, so a second
run skips what is done, a changed pin or operator source redoes what depends on it, and a run after
an interruption goes on with the step that was interrupted. Logs lie beside the stamps. pip's own
settings (PIP_INDEX_URL, pip.conf) are respected. Standard library only.
"""

from __future__ import annotations  # needs Python 3.10 or newer: make PYTHON=/path/to/python3.11

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from console import SetupError, StepLine, run
from machine import check_machine, compile_jobs, has_nvidia_gpu

ROOT = Path(__file__).resolve().parents[2]
BUILD_TOOLS = ('pip', 'setuptools', 'wheel', 'packaging', 'ninja')
MMCV = 'onedl-mmcv'
EXTRAS = 'onedl,test'
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'

# pip may find a wheel of mmcv that was built with another torch, or without CUDA.
CHECK_MMCV = """
import torch
from torch.utils.cpp_extension import CUDA_HOME
from mmcv.ops import get_compiling_cuda_version
if torch.cuda.is_available() and CUDA_HOME and get_compiling_cuda_version() == 'not available':
    raise SystemExit('mmcv was built without CUDA')
"""


@dataclass(frozen=True)
class Step:
    """One step: what it is called, what it depends on and what it does."""

    name: str
    title: str
    inputs: Callable[[], list[str]]
    action: Callable[[StepLine], None]


class Bootstrap:
    """The set-up of one repository.

    Args:
        root: The repository.
        venv: The virtual environment to make.
    """

    def __init__(self, root: Path, venv: Path) -> None:
        self.root, self.venv = root, venv
        self.state = venv / 'bootstrap'
        self.scratch = self.state / 'scratch'
        self.python = venv / 'bin' / 'python'
        self.constraints = root / 'constraints.txt'
        self.compiler = 'c++'
        self.steps = (
            Step('venv', 'making the virtual environment', self._venv_inputs, self._make_venv),
            Step('tools', 'installing build tools', self._tools, self._install_tools),
            Step('torch', 'installing torch', lambda: [self.pin('torch')], self._install_torch),
            Step('deps', 'installing the other packages', self._packages, self._install_packages),
            Step('mmcv', "building mmcv's operators", self._mmcv_inputs, self._build_mmcv),
            Step('mmbanet', "building mmbanet's operator", self._own_inputs, self._build_own),
        )

    def run(self) -> None:
        """Does what is not done yet."""
        if all(self.is_done(step) for step in self.steps):
            print(f'already set up in {self.venv.name} (make distclean removes it)')
            return
        total = len(self.steps) + 1
        line = StepLine(f'[1/{total}] checking the machine')
        torch_missing = not self._stamp(self.steps[2]).exists()
        self.compiler = check_machine(self.root, torch_missing=torch_missing)
        line.result = f'C++ compiler {self.compiler}, {compile_jobs()} jobs'
        line.finish()
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / 'lock').open('w') as lock:
            self._take(lock)
            for number, step in enumerate(self.steps, 2):
                self._do(step, f'[{number}/{total}] {step.title}')
        print(f'set up in {self.venv}')

    def is_done(self, step: Step) -> bool:
        """Returns whether the step was finished with the inputs that it has now."""
        stamp = self._stamp(step)
        return stamp.is_file() and stamp.read_text() == self._key(step)

    def pin(self, name: str) -> str:
        """Returns the pinned requirement, e.g. ``torch==2.13.0``."""
        match = re.search(rf'^{re.escape(name)}==[^\s;]+', self.constraints.read_text(), re.M)
        if match is None:
            raise SetupError(f'{self.constraints} has no line {name}==VERSION: add it')
        return match[0]

    def _do(self, step: Step, prefix: str) -> None:
        if self.is_done(step):
            print(f'{prefix}: already done')
            return
        self._stamp(step).unlink(missing_ok=True)
        self._log(step.name).unlink(missing_ok=True)
        remove_torn_installs(self.venv)
        self._empty_scratch()
        line = StepLine(prefix)
        step.action(line)
        self._empty_scratch()
        # The key is taken anew: a step may change what it depends on (the compiled library).
        self._stamp(step).write_text(self._key(step))
        line.finish()

    def _empty_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()

    def _take(self, lock: TextIO) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('another set-up is running here: waiting for it')
            fcntl.flock(lock, fcntl.LOCK_EX)

    def _stamp(self, step: Step) -> Path:
        return self.state / f'{step.name}.stamp'

    def _log(self, name: str) -> Path:
        return self.state / f'{name}.log'

    def _key(self, step: Step) -> str:
        return hashlib.sha256('\0'.join(step.inputs()).encode()).hexdigest()

    # What the steps depend on.

    def _venv_inputs(self) -> list[str]:
        return [str(self.venv), f'{sys.version_info[0]}.{sys.version_info[1]}']

    def _tools(self) -> list[str]:
        return [self.pin(name) for name in BUILD_TOOLS]

    def _packages(self) -> list[str]:
        """The pinned packages, mmcv (which has a step of its own) left out."""
        lines = (line.strip() for line in self.constraints.read_text().splitlines())
        return [line for line in lines if line and line[0] != '#' and line != self.pin(MMCV)]

    def _mmcv_inputs(self) -> list[str]:
        return [self.pin(MMCV), self._installed_torch()]

    def _own_inputs(self) -> list[str]:
        names = ('setup.py', 'pyproject.toml', 'constraints.txt')
        sources = [path for path in (self.root / 'ops').rglob('*') if path.is_file()]
        files = sorted([*sources, *(self.root / name for name in names)])
        hashes = [f'{path}:{hashlib.sha256(path.read_bytes()).hexdigest()}' for path in files]
        compiled = sorted(str(path) for path in (self.root / 'mmbanet').rglob('*.so'))
        return [self._installed_torch(), *hashes, *compiled]

    def _installed_torch(self) -> str:
        found = self.venv.glob('lib/python*/site-packages/torch-*.dist-info')
        return next((path.name for path in found), 'no torch')

    # What the steps do.

    def _make_venv(self, line: StepLine) -> None:
        config = self.venv / 'pyvenv.cfg'
        settings = config.read_text() if config.is_file() else ''
        found = re.search(r'^version\S* = (\d+\.\d+)', settings, re.M)
        version = f'{sys.version_info[0]}.{sys.version_info[1]}'
        if found and found[1] != version:
            raise SetupError(
                f'{self.venv} was made with Python {found[1]}, this is Python {version}: remove it '
                '(make distclean), or name the other Python (make PYTHON=...)'
            )
        # The base interpreter: `python3` may be the one in .venv, if that is activated.
        python = getattr(sys, '_base_executable', sys.executable)
        run([python, '-m', 'venv', str(self.venv)], self._log('venv'), line)

    def _install_tools(self, line: StepLine) -> None:
        command = [str(self.python), '-m', 'pip', 'install', '--upgrade', *self._tools()]
        run(command, self._log('tools'), line)

    def _install_torch(self, line: StepLine) -> None:
        self._pip('torch', line, *self._torch_index(), self.pin('torch'))

    def _torch_index(self) -> list[str]:
        """Without a GPU: PyTorch's CPU builds, since PyPI's bring gigabytes of CUDA libraries."""
        settings = subprocess.run(
            [self.python, '-m', 'pip', 'config', 'list'], capture_output=True, text=True
        ).stdout
        chosen_by_user = re.search(r'index-url|find-links|no-index', settings)
        if sys.platform != 'linux' or has_nvidia_gpu() or chosen_by_user:
            return []
        return ['--extra-index-url', CPU_INDEX]

    def _install_packages(self, line: StepLine) -> None:
        requirements = self.state / 'requirements.txt'
        requirements.write_text('\n'.join(self._packages()) + '\n')
        self._pip('deps', line, '-r', str(requirements))
        if not self._opencv_is_headless():
            # See constraints.txt: the other one needs libGL.
            headless = self.pin('opencv-python-headless')
            self._pip('deps', line, '--force-reinstall', '--no-deps', headless)

    def _opencv_is_headless(self) -> bool:
        versions = self.venv.glob('lib/python*/site-packages/cv2/version.py')
        return any('headless = True' in path.read_text() for path in versions)

    def _build_mmcv(self, line: StepLine) -> None:
        options = ['-v', '--no-deps', '--no-build-isolation', self.pin(MMCV)]
        self._pip('mmcv', line, *options)
        check = [str(self.python), '-c', CHECK_MMCV]
        try:
            run(check, self._log('mmcv'), line)
        except SetupError:
            self._pip('mmcv', line, '--force-reinstall', '--no-cache-dir', *options)
            run(check, self._log('mmcv'), line)

    def _build_own(self, line: StepLine) -> None:
        editable = ['--editable', f'{self.root}[{EXTRAS}]']
        self._pip('mmbanet', line, '-v', '--no-build-isolation', *editable)
        log = self._log('mmbanet')
        run([str(self.python), '-c', 'import torch, mmbanet._ops'], log, line)
        built_for = re.findall(r'mmbanet: building the operators (for .*)', log.read_text())
        line.result = ' '.join(['done', *built_for[-1:]])

    def _pip(self, name: str, line: StepLine, *arguments: str) -> None:
        command = [str(self.python), '-m', 'pip', 'install', '--disable-pip-version-check']
        command += ['--progress-bar', 'raw', '--constraint', str(self.constraints), *arguments]
        # setuptools takes CFLAGS in place of Python's own, so those (-O3) are repeated. Without
        # debug information compilation takes about half the time.
        flags = os.environ.get('CFLAGS') or sysconfig.get_config_var('CFLAGS') or '-O3'
        env = {
            'CFLAGS': f'{flags} -g0',
            'CXX': self.compiler,
            # Not /tmp, which is often small, and where an interrupted build would stay for good.
            'TMPDIR': str(self.scratch),
            'MAX_JOBS': os.environ.get('MAX_JOBS', str(compile_jobs())),
        }
        run(command, self._log(name), line, env)


def remove_torn_installs(venv: Path) -> None:
    """Removes the metadata of packages whose installation was interrupted.

    pip takes a package for installed as soon as its metadata is there, but writes INSTALLER only
    after all its files.
    """
    for metadata in venv.glob('lib/python*/site-packages/*.dist-info'):
        if not (metadata / 'INSTALLER').exists():
            shutil.rmtree(metadata)


def main(root: Path = ROOT) -> int:
    """Runs the set-up; returns the exit code: 1 for a failure, 130 for an interruption."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        Bootstrap(root, root / '.venv').run()
    except SetupError as error:
        print(f'\nset-up stopped: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nset-up interrupted: run the same command again to go on', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
