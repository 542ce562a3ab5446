"""SIGKILL at random moments of the checks for GPU machines: their results are complete JSON."""

from __future__ import annotations

import json
import random
import runpy
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

from .children import TOOLS, Child
from .row import Outcome, Row, count, number_of

_DEV = TOOLS / 'dev'


@contextmanager
def without_results_so_far() -> Iterator[None]:
    """The file is written when all checks are done."""
    sys.path.insert(0, str(_DEV))
    import gpu_checks

    write = gpu_checks.Report._write

    def at_the_end(self) -> None:
        if all(row['detail'] != 'not reached' for row in self.rows.values()):
            write(self)

    try:
        with patch.object(gpu_checks.Report, '_write', at_the_end):
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


def run(cases: int | str, folder: Path) -> Outcome:
    """Kills it after one of its first checks, in the next, which takes longer."""
    rng = random.Random(0)

    def attempt(case: int) -> str | None:
        out = folder / f'run_{case}'
        path = out / 'gpu_checks_cpu.json'
        child = Child(check, out, folder=out)
        child.wait_for(rng.choice(('parity ', 'argmax ')))
        time.sleep(rng.uniform(0, 0.5))
        child.kill()
        if not path.exists():
            return f'no results: {child.last_line()}'
        report = json.loads(path.read_text())
        statuses = {row['name']: row['status'] for row in report['checks']}
        printed = child.text().split()
        done = [name for name, status in statuses.items() if status != 'SKIP']
        missing = [name for name in done if name not in printed]
        return f'{missing} are not as printed' if missing or len(statuses) < 12 else None

    numbers = range(number_of(cases))
    return count((f'kill {case + 1}', partial(attempt, case)) for case in numbers)


ROW = Row(
    'gpu-script',
    'SIGKILL of `tools/dev/gpu_checks.py` (its dry run on the CPU): the results file is complete '
    'and names every check, reached or not',
    10,
    run,
    {'results-at-any-time': without_results_so_far},
)
