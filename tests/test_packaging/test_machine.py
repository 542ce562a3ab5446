"""Each thing that a machine can lack gets a message that says what and how to get it."""

import shutil
import subprocess
import sys
import sysconfig
from types import SimpleNamespace

import machine
import pytest
from console import SetupError

from .conftest import copy_tree


@pytest.mark.parametrize('version', [(3, 9), (3, 13), (2, 7)])
def test_wrong_python(version):
    with pytest.raises(SetupError, match=rf'this is Python {version[0]}\.{version[1]} .*PYTHON='):
        machine.check_python(version)


@pytest.mark.parametrize('version', [(3, 10), (3, 11), (3, 12)])
def test_right_python(version):
    machine.check_python(version)


def test_python_without_venv(monkeypatch):
    monkeypatch.setattr(machine.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SetupError, match=r'no venv and no ensurepip .*apt install python3-venv'):
        machine.check_python((3, 11))


def test_too_little_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: SimpleNamespace(free=3 * 2**30))
    machine.check_disk(tmp_path, 2.9)
    with pytest.raises(SetupError, match=r'3\.0 GiB free, 4\.0 GiB are needed'):
        machine.check_disk(tmp_path, 4.0)


def test_folder_that_cannot_be_written(tmp_path):
    tmp_path.joinpath('file').touch()
    with pytest.raises(SetupError, match='cannot write in'):
        machine.check_writable(tmp_path / 'file')


def test_no_compiler(monkeypatch):
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setenv('PATH', '')
    with pytest.raises(SetupError, match=r'no C\+\+ compiler found .*apt install g\+\+'):
        machine.check_compiler()


@pytest.mark.parametrize('compiler', ['false', 'no-such-compiler -O2'])
def test_compiler_that_does_not_work(monkeypatch, compiler):
    monkeypatch.setenv('CXX', compiler)
    with pytest.raises(SetupError, match=rf"'{compiler}' cannot compile a C\+\+17 program"):
        machine.check_compiler()


def test_no_python_headers(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, 'get_path', lambda name: str(tmp_path))
    with pytest.raises(SetupError, match=r'Python\.h is not in .*-dev'):
        machine.check_compiler()


def test_this_machine_has_what_is_needed(tmp_path):
    assert machine.check_machine(tmp_path, torch_missing=False)
    assert machine.compile_jobs() >= 1


def test_script_stops_with_one_message(tmp_path):
    tree = copy_tree(tmp_path / 'tree')
    result = subprocess.run(
        [sys.executable, tree / 'tools' / 'dev' / 'bootstrap.py'],
        env={'PATH': str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 1
    assert 'set-up stopped: no C++ compiler found' in result.stderr
    assert 'Traceback' not in result.stderr
    assert not (tree / '.venv').exists()
