"""What a check on a GPU is given, and how it ends: a line of text, or one of these errors."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple


class CheckError(Exception):
    """A check failed; the message says what is wrong."""


class SkipCheck(Exception):
    """A check cannot be made here; the message says why."""


class Settings(NamedTuple):
    """What the command line says."""

    device: str
    sets: int
    seed: int
    out: Path
    # When a check has to come to its end, by time.monotonic(), which all processes share.
    deadline: float

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


def need_cuda(settings: Settings) -> None:
    """Skips the check on the CPU."""
    if settings.device != 'cuda':
        raise SkipCheck('needs a CUDA device')


def last_line(output: str | None) -> str:
    """The last line of a program's output."""
    return ((output or '').strip().splitlines() or ['no output'])[-1]


def run_program(
    command: list[str], settings: Settings, **options: Any
) -> subprocess.CompletedProcess:
    """Runs a program, its output in ``stdout``; raises CheckError if the deadline passes."""
    options = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True, **options}
    try:
        return subprocess.run(command, timeout=max(settings.time_left(), 1), **options)
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode(errors='replace') if error.stdout else None
        raise CheckError(
            f'{error.timeout:.0f} s were not enough; last line: {last_line(output)}'
        ) from None
