"""Where the tools read and write when nothing is said: the current folder, never the package's.

Installed tools lie in site-packages, where their users' results have no business.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest

from ..conftest import ROOT

TOOLS = sorted(
    path
    for folder in ('tools', 'tools/benchmarks', 'tools/dev')
    for path in (ROOT / folder).glob('*.py')
    if 'def main(' in path.read_text() and 'parse_args(' in path.read_text()
)


class Parsed(Exception):
    """Raised in place of parsing; holds the parser."""


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_default_paths_are_relative(path, monkeypatch):
    def parse_args(parser, *_, **__):
        raise Parsed(parser)

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_args)
    monkeypatch.setattr(sys, 'argv', [str(path)])
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(Parsed) as parsed:
        module.main()
    parser = parsed.value.args[0]
    defaults = {action.dest: action.default for action in parser._actions} | parser._defaults
    assert defaults
    for name, default in defaults.items():
        if name != 'config' and isinstance(default, (str, Path)):  # configs are read
            assert not Path(default).is_absolute(), f'{name}: {default}'
