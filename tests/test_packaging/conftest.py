"""Builds the package from a copy of the repository, so that nothing is written into the tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmbanet import _ops as operators

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCES = (
    '.git',
    '.venv',
    'build',
    '_build',
    'dist',
    '*.egg-info',
    'data',
    'work_dirs',
    '.*_cache',
)
BUILT = ('__pycache__', '*.so', '.mim', '.hypothesis')

# In place of a compiler: see `wheel`.
COMPILER = """#!/bin/sh
case " $* " in
    *" -c "*) exec c++ "$@" -E ;;
    *" -shared "*) echo "$@" > "$LINKED"
        while [ "$1" != -o ]; do shift; done
        exec cp "$OPERATORS" "$2" ;;
    *) exec c++ "$@" ;;
esac
"""

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
    """The wheel, built from the source distribution.

    Its sources are those of the set-up, which has compiled and linked them: here they are only
    preprocessed, which finds every header, and what the set-up made is taken for linking them.
    """
    folder = tmp_path_factory.mktemp('wheel')
    options = ('--no-deps', '--no-build-isolation', '--no-cache-dir', '--wheel-dir', folder)
    compiler = folder / 'c++'
    compiler.write_text(COMPILER)
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
        FORCE_CUDA='0',
        CUDA_VISIBLE_DEVICES='',
        OPERATORS=operators.__file__,
        LINKED=str(folder / 'linked'),
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
