"""SIGKILL at random moments of the checks for GPU machines: their results are complete JSON."""

from __future__ import annotations

import json
import random
import runpy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from .children import TOOLS, Child
from .row import Outcome, Row, count

_DEV = TOOLS / 'dev'


@contextmanager
def without_renaming() -> Iterator[None]:
    """The file is written under its final name, at the end."""
    sys.path.insert(0, str(_DEV))
    import gpu_checks

    try:
        with patch.object(gpu_checks.Report, '_write', lambda self: None):
            yield
    finally:
        sys.path.remove(str(_DEV))


def check(out: Path) -> None:
    """Runs what needs no GPU, with a few sets of inputs."""
    sys.path.insert(0, str(_DEV))
    sys.argv = ['gpu_checks.py', '--device', 'cpu', '--sets', '4', '--out', str(out)]
    if 'gpu_checks' in sys.modules:
        sys.exit(sys.modules['gpu_checks'].main())
    runpy.run_path(str(_DEV / 'gpu_checks.py'), run_name='__main__')


def run(cases: int, folder: Path) -> Outcome:
    """Kills it some time after its file is there."""
    rng = random.Random(0)

    def attempt(case: int) -> str | None:
        out = folder / f'run_{case}'
        path = out / 'gpu_checks_cpu.json'
        child = Child(check, out, folder=out)
        end = time.monotonic() + 60
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 2))
        child.kill()
        if not path.exists():
            return f'no results: {child.last_line()}'
        report = json.loads(path.read_text())
        statuses = {row['name']: row['status'] for row in report['checks']}
        printed = child.text().split()
        done = [name for name, status in statuses.items() if status != 'SKIP']
        missing = [name for name in done if name not in printed]
        return f'{missing} are not as printed' if missing or len(statuses) < 12 else None

    return count((f'kill {case + 1}', lambda c=case: attempt(c)) for case in range(cases))


ROW = Row(
    'gpu-script',
    'SIGKILL of `tools/dev/gpu_checks.py` (its dry run on the CPU): the results file is complete '
    'and names every check, reached or not',
    10,
    run,
    {'results-at-any-time': without_renaming},
)
