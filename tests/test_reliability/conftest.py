"""The rows of ``make reliability`` in their short forms, and without what they rest on."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import TOOLS

sys.path.append(str(TOOLS))

from reliability.children import taken_out
from reliability.row import Outcome
from reliability.rows import all_rows


@pytest.fixture(scope='module')
def run_row(tmp_path_factory) -> Callable[..., Outcome]:
    """``run_row(name, cases, without='')`` in an empty folder."""

    def run(name: str, cases: int | str, without: str = '') -> Outcome:
        row, folder = all_rows()[name], Path(tmp_path_factory.mktemp(name))
        if not without:
            return row.run(cases, folder)
        with taken_out(row.protections[without]):
            return row.run(cases, folder)

    return run
