"""The command ``mmbanet``: it lists what it can, runs it under its own name, and knows a typo."""

import os
import re
import subprocess
import sys

import pytest

from mmbanet.cli.arguments import argument_parser
from mmbanet.cli.main import COMMANDS, main

from ..conftest import ROOT


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the command in this process: its exit status or message, and what it printed."""

    def call(*arguments: str) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, 'argv', ['mmbanet', *arguments])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().out

    return call


def test_it_is_installed_as_a_command():
    project = (ROOT / 'pyproject.toml').read_text()
    assert '[project.scripts]\nmmbanet = "mmbanet.cli.main:main"\n' in project


def test_it_lists_its_commands_and_knows_a_typo(call):
    status, listed = call()
    assert status == 0
    assert all(f'  {name} ' in listed for name in COMMANDS)
    assert call('--help') == (0, listed)
    status, _ = call('predic')
    assert status.startswith('mmbanet: no such command: predic\n')


@pytest.mark.parametrize('name', COMMANDS)
def test_a_command_says_how_it_is_called(call, name):
    status, said = call(name, '--help')
    assert status == 0
    assert f'usage: mmbanet {name}' in said
    assert f'\n  mmbanet {name} ' in said  # an example


@pytest.mark.parametrize(
    'tool',
    [
        ('-c', 'from mmbanet.cli.main import main; main()', 'predict'),
        (str(ROOT / 'tools' / 'train.py'),),
    ],
)
def test_nothing_is_printed_before_what_was_asked_for(tool):
    """In a process of its own: what mmdet prints, it prints when it is first imported."""
    command = [sys.executable, *tool, '--help']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.stdout.startswith('usage: ')
    assert (found.returncode, found.stderr) == (0, '')


MISSING = {
    'predict': ['no.py', 'no.pth', 'no.jpg', '--out', 'out'],
    'browse': ['no', '--out', 'out'],
    'check': ['no'],
    'convert': ['labelme', 'no', '--classes', 'no.json'],
    'report': ['no.py', 'no.pth', '--out', 'out'],
    'export': ['no.py', 'no.pth', '--out', 'out.onnx'],
    'make-scenes': ['--out', 'out', '--photographs', 'no'],
    'mask-overlap': ['no.json'],
    'train.py': ['no.py'],
    'test.py': ['no.py'],
}


def test_help_and_mistakes_are_answered_before_anything_heavy_is_imported(tmp_path):
    """In a process of its own, where nothing has been imported."""
    names = [*(f'mmbanet {name}' for name in COMMANDS), 'train.py', 'test.py']
    calls = [
        [*name.split(), *words]
        for name in names
        for words in (['--help'], [], MISSING[name.split()[-1]])
    ]
    code = f"""if True:
        import runpy, sys
        from mmbanet.cli.main import main
        for sys.argv in {calls}:
            try:
                if sys.argv[0] == 'mmbanet':
                    main()
                else:
                    runpy.run_path('{ROOT}/tools/' + sys.argv[0], run_name='__main__')
            except SystemExit as end:
                print(end.code, file=sys.stderr)
        print({{'torch', 'numpy', 'mmengine', 'mmcv', 'mmdet'}} & set(sys.modules), file=sys.stderr)
    """
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    found = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    said = found.stderr.splitlines()
    assert said[-1] == 'set()'
    assert said.count('0') == said.count('2') == len(names)
    missing = [line for line in said if ' not found: ' in line]
    assert [line.split(':')[0] for line in missing] == names


def test_settings_are_keys_with_values(capsys):
    parser = argument_parser('')
    args = parser.parse_args(['c.py', '--cfg-options', 'a.b=1', 'c=[2,3]'])
    assert args.cfg_options == {'a.b': 1, 'c': [2, 3]}
    with pytest.raises(SystemExit):
        parser.parse_args(['c.py', '--cfg-options', 'a.b'])
    assert "expected KEY=VALUE, got 'a.b'" in capsys.readouterr().err


def test_mistakes_are_told_under_its_name(call, tmp_path):
    status, _ = call('predict', 'no.py', 'no.pth', str(tmp_path / 'no.jpg'), '--out', str(tmp_path))
    assert status.startswith('mmbanet predict: config not found: ')


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        (['check', 'nowhere'], 'mmbanet check: data set not found: .*nowhere'),
        (['check', '.'], 'mmbanet check: no panoptic annotations: neither is '),
        (
            ['convert', 'cityscapes', '.'],
            'mmbanet convert: no folder .*leftImg8bit/train; unpack leftImg8bit_trainvaltest.zip',
        ),
        (
            ['convert', 'labelme', '.', '--classes', 'no.json'],
            'mmbanet convert: class map not found: .*no.json',
        ),
    ],
)
def test_mistakes_with_data_are_one_line(call, command, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = call(*command)
    assert re.match(message, status)
    assert '\n' not in status + said
