"""Builds the package from a copy of the repository, so that nothing is written into the tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = ('.git', '.venv', 'build', 'dist', '*.egg-info', 'data', 'work_dirs', '.*_cache')
BUILT = ('__pycache__', '*.so', '.mim', '.hypothesis')

# tools/dev is no package: its scripts are imported by their plain names.
sys.path.append(str(ROOT / 'tools' / 'dev'))


def call(*command: object, cwd: Path, **env: str) -> str:
    """Runs a command; returns its output, or fails the test with it."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def copy_tree(target: Path) -> Path:
    """Copies the repository's sources to ``target``."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_SOURCES, *BUILT))
    return target


@pytest.fixture(scope='session')
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp('sdist')
    tree = copy_tree(folder / 'tree')
    build = 'import setuptools.build_meta as m, sys; m.build_sdist(sys.argv[1])'
    call(sys.executable, '-c', build, folder, cwd=tree)
    (archive,) = folder.glob('mmbanet-*.tar.gz')
    shutil.unpack_archive(archive, folder)
    return folder / archive.name.removesuffix('.tar.gz')


@pytest.fixture(scope='session')
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, with operators that are not optimised."""
    folder = tmp_path_factory.mktemp('wheel')
    options = ('--no-deps', '--no-build-isolation', '--no-cache-dir', '--wheel-dir', folder)
    # The last -O counts. Optimising takes most of the time of compilation.
    compiler = folder / 'c++'
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    compiler.chmod(0o755)
    call(
        sys.executable,
        '-m',
        'pip',
        'wheel',
        *options,
        sdist,
        cwd=folder,
        CXX=str(compiler),
        MAX_JOBS='1',
    )
    (path,) = folder.glob('mmbanet-*.whl')
    return path


@pytest.fixture(scope='session')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents, to be put on PYTHONPATH."""
    folder = tmp_path_factory.mktemp('installed')
    options = ('--no-deps', '--no-index', '--target', folder)
    call(sys.executable, '-m', 'pip', 'install', *options, wheel, cwd=folder)
    return folder
