"""The command ``mmbanet``: it lists what it can, runs it under its own name, and knows a typo."""

import subprocess
import sys

import pytest

from mmbanet.cli.main import COMMANDS

from ..conftest import ROOT


def call(*arguments: str) -> subprocess.CompletedProcess:
    code = 'from mmbanet.cli.main import main; main()'
    return subprocess.run(
        [sys.executable, '-c', code, *arguments], capture_output=True, text=True, check=False
    )


def test_it_is_installed_as_a_command():
    project = (ROOT / 'pyproject.toml').read_text()
    assert '[project.scripts]\nmmbanet = "mmbanet.cli.main:main"\n' in project


def test_it_lists_its_commands_and_knows_a_typo():
    listed = call()
    assert listed.returncode == 0
    assert all(f'  {name} ' in listed.stdout for name in COMMANDS)
    assert call('--help').stdout == listed.stdout
    typo = call('predic')
    assert typo.returncode == 1
    assert typo.stderr.startswith('mmbanet: no such command: predic\n')


@pytest.mark.parametrize('name', COMMANDS)
def test_a_command_says_how_it_is_called(name):
    said = call(name, '--help')
    assert said.returncode == 0, said.stderr
    assert f'usage: mmbanet {name}' in said.stdout


def test_mistakes_are_told_under_its_name(tmp_path):
    said = call('predict', 'no.py', 'no.pth', str(tmp_path / 'no.jpg'), '--out', str(tmp_path))
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith('mmbanet predict: no such image or folder: ')
