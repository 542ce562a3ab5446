"""`make setup` skips what is done, redoes what changed, and goes on after an interruption."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import ROOT

# In place of Python and pip: writes down what it is asked for and leaves the files that make sees.
PYTHON = r"""#!/bin/sh
site=.venv/lib/python3.11/site-packages
case "$*" in
    "-c import ensurepip"*) exec "$REAL" "$@" ;;
    *get_path*) echo "${HEADERS:-$("$REAL" "$@")}" ; exit ;;
    "-m pip config"*) echo "$PIP_CONFIG" ; exit ;;
    "-m pip cache"*) echo "${KEPT-onedl_mmcv.whl}" ; exit ;;
    "-m venv"*) step=venv ; mkdir -p .venv/bin $site ; cp "$0" .venv/bin/python ;;
    *--requirement*) step=packages ; cat > .venv/requirements ;;
    *opencv-python-headless*) step=opencv ; mkdir -p $site/cv2
        echo 'headless = True' > $site/cv2/version.py ;;
    *check_mmcv*) step=check ;;
    *onedl-mmcv*) step=mmcv ;;
    *--editable*) step=mmbanet ;;
    *) exit ;;
esac
echo "$step|$*|$CFLAGS|$MAX_JOBS" >> calls
case " $STOP_AT " in *" $step "*) exit 1 ;; esac
case $step in
    packages) mkdir -p $site/torch-2.13.0.dist-info ; cd $site/torch-2.13.0.dist-info
        [ -e RECORD ] || touch RECORD INSTALLER ;;
    mmbanet) touch mmbanet/_ops.so ;;
esac
"""
ALL = ['venv', 'packages', 'opencv', 'mmcv', 'check', 'mmbanet']


class Repository:
    """A small repository with our Makefile."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / '.venv' / 'lib' / 'python3.11' / 'site-packages'
        shutil.copy(ROOT / 'Makefile', root)
        shutil.copy(ROOT / 'constraints.txt', root)
        for name in ('ops/cpu/roi_inlay.cpp', 'setup.py', 'pyproject.toml', 'mmbanet/ops.py'):
            root.joinpath(name).parent.mkdir(exist_ok=True, parents=True)
            root.joinpath(name).touch()
        self.python = root / 'python'
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.calls: list[list[str]] = []
        self.output = ''

    def set_up(self, *arguments: str, **env: str) -> list[str]:
        """Runs the set-up; returns the names of the steps that it started."""
        log = self.root / 'calls'
        log.write_text('')
        outer = {
            key: os.environ[key] for key in os.environ if not key.startswith(('MAKE', 'MFLAGS'))
        }
        result = subprocess.run(
            ['make', 'setup', f'PYTHON={self.python}', *arguments],
            cwd=self.root,
            env={**outer, 'REAL': sys.executable, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.calls = [line.split('|') for line in log.read_text().splitlines()]
        self.output, self.code = result.stdout, result.returncode
        return [call[0] for call in self.calls]

    def change(self, name: str, old: str = '', new: str = 'changed') -> None:
        """Changes a file."""
        time.sleep(0.01)  # file systems tell times apart by milliseconds
        path = self.root / name
        text = path.read_text() if path.exists() else ''
        path.write_text(text.replace(old, new) if old else text + new)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_second_run_skips_everything(repository):
    assert repository.set_up() == ALL
    assert repository.code == 0, repository.output
    assert repository.set_up() == []


def test_packages_are_the_pinned_ones_without_mmcv(repository):
    repository.set_up()
    asked = (repository.root / '.venv' / 'requirements').read_text().splitlines()
    constraints = (ROOT / 'constraints.txt').read_text().splitlines()
    (mmcv,) = set(constraints) - set(asked)
    assert mmcv.startswith('onedl-mmcv==')


@pytest.mark.parametrize('name', ['ops/cpu/roi_inlay.cpp', 'ops/new.cu', 'setup.py'])
def test_changed_operator_source_rebuilds_only_the_operators(repository, name):
    repository.set_up()
    repository.change(name)
    assert repository.set_up() == ['mmbanet']
    assert repository.set_up() == []


def test_removed_library_is_rebuilt(repository):
    repository.set_up()
    repository.root.joinpath('mmbanet', '_ops.so').unlink()
    assert repository.set_up() == ['mmbanet']


def test_changed_pin_redoes_what_depends_on_it(repository):
    repository.set_up()
    repository.change('constraints.txt', 'ninja==', 'ninja==9.')
    assert repository.set_up() == ['packages']
    repository.change('constraints.txt', 'onedl-mmcv==', 'onedl-mmcv==9.')
    assert repository.set_up() == ['packages', 'mmcv', 'check', 'mmbanet']
    assert repository.set_up() == []


def test_other_torch_rebuilds_both_libraries_without_the_kept_wheel(repository):
    repository.set_up()
    time.sleep(0.01)
    metadata = repository.site / 'torch-2.13.0.dist-info'
    metadata.rename(repository.site / 'torch-2.14.0.dist-info').joinpath('RECORD').touch()
    assert repository.set_up() == ['mmcv', 'check', 'mmbanet']
    assert '--no-cache-dir' in repository.calls[0][1]
    assert repository.set_up() == []


def test_wheel_of_mmcv_for_another_torch_is_not_kept(repository):
    steps = repository.set_up(STOP_AT='check')
    assert steps == ['venv', 'packages', 'opencv', 'mmcv', 'check', 'mmcv', 'check']
    assert '--no-cache-dir' not in repository.calls[3][1]
    assert '--no-cache-dir' in repository.calls[5][1]
    assert repository.set_up() == ['mmcv', 'check', 'mmbanet']


@pytest.mark.parametrize('name', ALL)
def test_interrupted_step_is_redone_and_finished_ones_are_not(repository, name):
    started = repository.set_up(STOP_AT=name)
    assert started[-1] == name
    assert repository.code != 0
    first = {'opencv': 'packages', 'check': 'mmcv'}.get(name, name)
    rest = ALL[ALL.index(first) :]
    assert [step for step in repository.set_up() if step != 'opencv'] == [
        step for step in rest if step != 'opencv'
    ]
    assert repository.code == 0, repository.output


def test_interrupted_redo_does_not_count_as_done(repository):
    repository.set_up()
    repository.change('ops/cpu/roi_inlay.cpp')
    assert repository.set_up(STOP_AT='mmbanet') == ['mmbanet']
    assert repository.set_up() == ['mmbanet']


def test_half_installed_packages_are_forgotten(repository):
    """pip takes a package for installed as soon as its metadata is there; INSTALLER comes last."""
    repository.set_up(STOP_AT='packages')
    torn, whole = (repository.site / f'{name}.dist-info' for name in ('numpy-1', 'pillow-1'))
    torn.mkdir()
    whole.mkdir()
    whole.joinpath('INSTALLER').touch()
    repository.set_up()
    assert not torn.exists()
    assert whole.exists()


def test_opencv_that_needs_libgl_is_replaced(repository):
    repository.set_up()
    repository.change('constraints.txt')
    repository.site.joinpath('cv2', 'version.py').write_text('headless = False\n')
    assert repository.set_up() == ['packages', 'opencv']
    assert '--force-reinstall' in repository.calls[-1][1]


@pytest.mark.parametrize(
    ('settings', 'gpu', 'cpu_index'),
    [
        ('', False, True),
        ('', True, False),
        ("global.index-url='https://mirror.example'", False, False),
        (":env:.find-links='/wheels'", False, False),
    ],
)
def test_index_of_torch(repository, settings, gpu, cpu_index):
    folder = repository.root / 'gpu'
    folder.mkdir()
    if gpu:
        shutil.copy('/bin/true', folder / 'nvidia-smi')
    elif shutil.which('nvidia-smi'):
        pytest.skip('there is a GPU')
    repository.set_up(PIP_CONFIG=settings, PATH=f'{folder}:{os.environ["PATH"]}')
    assert ('download.pytorch.org/whl/cpu' in repository.calls[1][1]) == cpu_index


@pytest.mark.parametrize('own', ['', '-march=native'])
def test_compilers_flags(repository, own):
    """CFLAGS replace Python's own: with -g0 alone mmcv would be compiled without optimisation."""
    steps = repository.set_up(CFLAGS=own)
    header = str(repository.root / '.venv' / 'tmp' / 'torch.h')
    for name, more in (('mmcv', ['-include', header]), ('mmbanet', [])):
        flags = repository.calls[steps.index(name)][2].split()
        assert flags == ['-O3', '-DNDEBUG', '-g0', *own.split(), *more]
    repository.root.joinpath('mmbanet', '_ops.so').unlink()
    repository.set_up(f'CFLAGS={own}')
    assert '-O3' in repository.calls[-1][2]


@pytest.mark.parametrize(
    ('kept', 'compiler', 'is_compiled'),
    [
        ('', 'Free Software Foundation', True),
        ('', 'clang', False),
        ('onedl_mmcv.whl', 'Free Software Foundation', False),
    ],
)
def test_torchs_headers_are_read_once_where_mmcv_is_compiled_by_gcc(
    repository, kept, compiler, is_compiled
):
    path = repository.root / 'cxx'
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "{compiler}" || echo "$@" >> compiled\n'
    )
    path.chmod(0o755)
    assert repository.set_up(f'CXX={path}', KEPT=kept) == ALL
    header = f'{repository.root}/.venv/tmp/torch.h'
    compiled = [
        line for line in (repository.root / 'compiled').read_text().splitlines() if header in line
    ]
    assert len(compiled) == is_compiled
    for line in compiled:
        assert line.startswith('-O3 -DNDEBUG -g0 ')
        assert line.endswith(f'-x c++-header {header} -o {header}.gch')


def test_parallel_jobs(repository):
    steps = repository.set_up()
    assert 1 <= int(repository.calls[steps.index('mmcv')][3]) <= os.cpu_count()
    repository.change('setup.py')
    repository.set_up('MAX_JOBS=1')
    assert repository.calls[-1][3] == '1'


@pytest.mark.parametrize('python', ['no-such-python', 'false'])
def test_missing_or_wrong_python(repository, python):
    assert repository.set_up(f'PYTHON={python}') == []
    assert 'set-up stopped: Python 3.10, 3.11 (tested) or 3.12' in repository.output
    assert repository.code != 0
    assert not repository.root.joinpath('.venv').exists()


@pytest.mark.parametrize('compiler', ['no-such-compiler', 'false'])
def test_missing_compiler(repository, compiler):
    assert repository.set_up(f'CXX={compiler}') == []
    assert 'set-up stopped: a C++17 compiler and the headers of Python' in repository.output
    assert repository.code != 0
    assert not repository.root.joinpath('.venv').exists()


def test_missing_headers(repository, tmp_path):
    assert repository.set_up(HEADERS=str(tmp_path)) == []
    assert 'Python.h' in repository.output
    assert 'set-up stopped: a C++17 compiler and the headers of Python' in repository.output
