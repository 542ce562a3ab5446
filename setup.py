"""Builds the compiled operators of mmbanet (``mmbanet._ops``); metadata is in ``pyproject.toml``.

The CPU implementation is always built. The CUDA implementation is built as well when a CUDA toolkit
is found and a GPU is visible, or when ``FORCE_CUDA=1`` says so.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
REMEDY = (
    'Install it first and build without isolation, so that the build sees it:\n'
    '    pip install torch\n'
    '    pip install --no-build-isolation onedl-mmcv  # or: "mmcv>=2.1,<2.2"\n'
    '    pip install --no-build-isolation mmbanet  # or, in a checkout: -e .'
)


def missing_requirement():
    """Why the operators cannot be compiled here, or None."""
    for name in ('torch', 'mmcv'):
        if importlib.util.find_spec(name) is None:
            return f'mmbanet compiles its operators against {name}, which is not installed.'
    if not mmcv_headers().is_dir():
        return (
            f'mmbanet compiles its operators against the headers of mmcv, but {mmcv_headers()} '
            'does not exist: this mmcv was built without operators (mmcv-lite).'
        )
    return None


def mmcv_headers():
    """Folder of mmcv's extension headers; found without importing mmcv, which takes seconds."""
    return Path(importlib.util.find_spec('mmcv').origin).parent / 'ops' / 'csrc' / 'common'


def sources(*folders):
    """Sources in folders of ``ops``, relative to this file as setuptools wants them."""
    paths = []
    for folder in folders:
        for pattern in ('*.cpp', '*.cu'):
            paths += sorted((ROOT / 'ops' / folder).glob(pattern))
    return [str(path.relative_to(ROOT)) for path in paths]


def cuda_wanted():
    """Whether to build the CUDA implementation; exits if it is forced but impossible."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME

    forced = os.environ.get('FORCE_CUDA', '0') == '1'
    if forced and torch.version.cuda is None:
        sys.exit(
            f'FORCE_CUDA=1, but the installed torch {torch.__version__} is a CPU build. '
            'Install a CUDA build of torch (see https://pytorch.org) or unset FORCE_CUDA.'
        )
    if forced and CUDA_HOME is None:
        sys.exit(
            'FORCE_CUDA=1, but no CUDA toolkit was found. Install one of version '
            f'{torch.version.cuda} and set CUDA_HOME to its folder, or unset FORCE_CUDA.'
        )
    return forced or (CUDA_HOME is not None and torch.cuda.is_available())


def operators():
    """The extension module and the command that builds it."""
    from torch.utils.cpp_extension import BuildExtension, CppExtension, CUDAExtension

    # No debug information: it doubles the time of compilation. No fused multiplications: the
    # kernels give the same bits in every layout and on every machine. No warnings about vectors as
    # results: the functions that have them are inlined.
    unix_flags = ['-O3', '-g0', '-ffp-contract=off', '-Wno-psabi']
    cxx_flags = ['/O2', '/fp:precise'] if sys.platform == 'win32' else unix_flags
    link_flags = []
    if sys.platform == 'linux':
        # at::parallel_for runs serially in code that is compiled without OpenMP.
        cxx_flags.append('-fopenmp')
        link_flags.append('-fopenmp')
    options = {
        'name': 'mmbanet._ops',
        'include_dirs': [str(mmcv_headers())],
        'extra_compile_args': {'cxx': cxx_flags},
        'extra_link_args': link_flags,
    }
    if cuda_wanted():
        print('mmbanet: building the operators for CPU and CUDA', file=sys.stderr)
        options['extra_compile_args']['nvcc'] = ['-O3', '--expt-relaxed-constexpr']
        return CUDAExtension(sources=sources('.', 'cpu', 'cuda'), **options), BuildExtension
    print('mmbanet: building the operators for CPU only', file=sys.stderr)
    return CppExtension(sources=sources('.', 'cpu'), **options), BuildExtension


class ImpossibleBuild(build_ext):
    """Fails when something is to be compiled, so that metadata and sdists need no torch."""

    def run(self):
        """Exits with what is missing and the remedy."""
        sys.exit(f'{missing_requirement()}\n{REMEDY}')


class BuildPyWithMim(build_py):
    """Packs configs, tools and the index as ``mmbanet/.mim``, where OpenMMLab's mim looks.

    An editable install gets links instead of copies, so that edits count at once.
    """

    def run(self):
        """Builds the package, then adds the folder."""
        super().run()
        package = ROOT / 'mmbanet' if self.editable_mode else Path(self.build_lib, 'mmbanet')
        mim = package / '.mim'
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        index = 'model-index.yml'
        if self.editable_mode:
            (mim / index).symlink_to(Path('..', '..', index))
        else:
            shutil.copy(ROOT / index, mim)
        for name in ('configs', 'tools'):
            if self.editable_mode:
                (mim / name).symlink_to(Path('..', '..', name), target_is_directory=True)
            else:
                unwanted = shutil.ignore_patterns('__pycache__', 'dev', '.*')
                shutil.copytree(ROOT / name, mim / name, ignore=unwanted)


if missing_requirement():
    extension, command = Extension('mmbanet._ops', sources('.', 'cpu')), ImpossibleBuild
else:
    extension, command = operators()

setup(ext_modules=[extension], cmdclass={'build_ext': command, 'build_py': BuildPyWithMim})
