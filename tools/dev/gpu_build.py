"""Builds the operators for the GPU that is there, in place, in the checkout."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from gpu_outcomes import CheckError, Settings, SkipCheck, last_line, run_program

ROOT = Path(__file__).resolve().parents[2]


def build(settings: Settings, capability: str | None, mmcv_headers: Path | None) -> str:
    """Runs ``setup.py build_ext --inplace``; raises CheckError if it fails.

    Args:
        settings: The build ends at their deadline.
        capability: Compute capability of the GPU, the only one that is built for; None: no GPU.
        mmcv_headers: Folder of mmcv's headers, if mmcv is not installed.
    """
    if capability is None:
        raise SkipCheck('needs a CUDA device')
    environment = {
        'MAX_JOBS': str(os.cpu_count()),
        'TORCH_CUDA_ARCH_LIST': capability,
        **os.environ,
        'FORCE_CUDA': '1',
    }
    command = [sys.executable, 'setup.py', 'build_ext', '--inplace']
    with tempfile.TemporaryDirectory() as folder:
        if mmcv_headers is not None:
            _make_package(Path(folder), mmcv_headers)
            known = environment.get('PYTHONPATH')
            environment['PYTHONPATH'] = os.pathsep.join([folder, *([known] if known else [])])
        result = run_program(command, settings, cwd=ROOT, env=environment)
    if result.returncode:
        print(result.stdout, end='')
        raise CheckError(f'exit code {result.returncode}: {last_line(result.stdout)}')
    return f'for compute capability {capability}, {environment["MAX_JOBS"]} jobs'


def _make_package(folder: Path, headers: Path) -> None:
    """A package mmcv that has nothing but its headers, at the place where setup.py looks."""
    common = folder / 'mmcv' / 'ops' / 'csrc' / 'common'
    common.parent.mkdir(parents=True)
    common.symlink_to(headers.resolve(), target_is_directory=True)
    (folder / 'mmcv' / '__init__.py').touch()
