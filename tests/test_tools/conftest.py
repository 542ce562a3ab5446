"""How tests import the tools, which are no package, and an untrained model for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmbanet.registry import MODELS

from ..conftest import TOOLS, forget_tools


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
def checkpoint(small_cfg, tmp_path) -> Path:
    """Random weights of the small model."""
    model = MODELS.build(small_cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'model.pth'
