"""How tests import and call the tools, which are no package; an untrained model for them."""

import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mmbanet.registry import MODELS

from ..conftest import ROOT

TOOLS = ROOT / 'tools'


@pytest.fixture
def tools_folder(monkeypatch) -> Iterator[Path]:
    """The folder of the tools, to import from; what was imported is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield TOOLS
    forget_tools()


@pytest.fixture
def benchmark_folder(monkeypatch) -> Iterator[Path]:
    """The same of the benchmarks."""
    monkeypatch.syspath_prepend(str(TOOLS / 'benchmarks'))
    yield TOOLS / 'benchmarks'
    forget_tools()


@pytest.fixture
def call_tool(tools_folder, tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Runs a tool as a script, but in this process, which spares its imports.

    ``call_tool('train.py', *arguments)``; the current folder is a temporary one.
    """

    def call(name: str, *arguments: object) -> None:
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(tools_folder / name), run_name='__main__')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '0')  # which the tools set
    handler = signal.getsignal(signal.SIGINT)
    yield call
    signal.signal(signal.SIGINT, handler)  # at its end, a script ignores it


def forget_tools() -> None:
    """Removes the modules of the tools, but for what is imported for all tests of a file."""
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, '__file__', None) or '/')
        if TOOLS in path.parents and TOOLS / 'dev' not in path.parents:
            del sys.modules[name]


@pytest.fixture
def checkpoint(small_cfg, tmp_path) -> Path:
    """Random weights of the small model."""
    model = MODELS.build(small_cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'model.pth'
