"""Runs the set-up's commands and reports their progress. Standard library only.

On a terminal the current line is rewritten every second; elsewhere (CI, a log file) a new line
appears every 15 seconds.
"""

from __future__ import annotations  # needs Python 3.10 or newer: make PYTHON=/path/to/python3.11

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

SECONDS_BETWEEN_LINES = 15.0
TAIL_LINES = 25

# What a failed command's last lines say -> what to do about it.
REMEDIES = (
    (
        r'No space left on device',
        'free some disk space, or move the repository to another disk',
    ),
    (
        r'fatal error: Killed|Killed signal|ninja: build stopped: interrupted|MemoryError',
        'the compiler ran out of memory: run again with fewer at a time, MAX_JOBS=1 make setup',
    ),
    (
        r'CUDA_HOME environment variable is not set|detected CUDA version .* mismatches',
        "a GPU is visible but no CUDA toolkit of torch's version: install it and set CUDA_HOME, "
        'or build for the CPU with CUDA_VISIBLE_DEVICES= make setup',
    ),
    (
        r'name resolution|NewConnectionError|ConnectTimeout|ReadTimeout|Connection refused'
        r'|ProxyError|Connection aborted|Network is unreachable',
        "a package could not be downloaded: check the network and pip's settings "
        '(pip config list), then run again',
    ),
    (
        r'No matching distribution found',
        "the package index has no such version for this Python: see constraints.txt and pip's "
        'settings (pip config list); Python 3.11 is the tested one',
    ),
)


# What pip's output says -> what the progress line says. Files are counted by ninja; the sizes come
# from pip's --progress-bar raw, for what takes longer than a blink.
PROGRESS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r'^\s*\[(\d+)/(\d+)\]', lambda match: f'{match[1]}/{match[2]} files'),
    (
        r'^Progress (\d+) of (\d{8,})',
        lambda match: f'downloading, {int(match[1]) >> 20}/{int(match[2]) >> 20} MiB',
    ),
    (r'^\s*(?:Collecting|Downloading) ([A-Za-z0-9_.]+)', lambda match: f'downloading {match[1]}'),
    (r'^\s*Building (?:wheel|editable) for (\S+)', lambda match: f'building {match[1]}'),
    (r'^Installing collected packages', lambda match: 'installing'),
)


class SetupError(Exception):
    """Something is missing or failed; the message says cause and remedy."""


def format_seconds(seconds: float) -> str:
    """Returns e.g. ``2 min 10 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes} min {rest:02d} s' if minutes else f'{rest} s'


def describe_line(line: str) -> str:
    """Returns what a line of pip's output says about its progress, or an empty string."""
    for pattern, describe in PROGRESS:
        match = re.search(pattern, line)
        if match:
            return describe(match)
    return ''


class StepLine:
    """The progress line of one step: ``[6/7] building ... 41/78 files, 2 min 10 s``."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.detail = ''
        self.result = 'done'
        self._start = time.monotonic()
        self._last = self._start
        self._tty = sys.stdout.isatty()
        self._print('...')

    def tick(self) -> None:
        """Shows the time that went by, as often as the kind of output bears it."""
        now = time.monotonic()
        if now - self._last >= (1.0 if self._tty else SECONDS_BETWEEN_LINES):
            self._last = now
            detail = f'{self.detail}, ' if self.detail else ''
            self._print(f'... {detail}{format_seconds(now - self._start)}')

    def finish(self) -> None:
        """Ends the line with its result and the time that the step took."""
        self._print(f'{self.result}, {format_seconds(time.monotonic() - self._start)}', end='\n')

    def _print(self, text: str, end: str | None = None) -> None:
        text = f'{self.prefix} {text}'
        if self._tty:
            width = shutil.get_terminal_size().columns
            print(f'\r\033[K{text[: width - 1]}', end=end or '', flush=True)
        else:
            print(text, flush=True)


def run(command: list[str], log: Path, line: StepLine, env: dict[str, str] | None = None) -> None:
    """Runs a command, its output going to ``log``, and keeps ``line`` up to date.

    Args:
        command: Program and arguments.
        log: File that takes the whole output.
        line: The step's progress line.
        env: Environment variables beside the present ones.

    Raises:
        SetupError: The command failed; the message holds the last lines, the log and a remedy.
    """
    # A session of its own, so that an interruption ends compilers too and not just pip.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        env={**os.environ, **(env or {})},
        start_new_session=True,
    ) as process:
        reader = threading.Thread(target=_copy_output, args=(process, log, line), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(0.2)
                line.tick()
        except BaseException:
            _end_session(process)
            raise
    if process.returncode:
        raise SetupError(explain_failure(process.returncode, log))


def explain_failure(code: int, log: Path) -> str:
    """Returns the message for a command that exited with ``code``."""
    tail = log.read_text(errors='replace').splitlines()[-TAIL_LINES:]
    fitting = (remedy for pattern, remedy in REMEDIES if re.search(pattern, '\n'.join(tail)))
    remedy = next(fitting, 'read the log above, mend the cause and run again')
    lines = '\n'.join(f'    {text}' for text in tail)
    return (
        f'a command failed with exit code {code}. Its last lines:\n{lines}\nWhole log: {log}\n'
        + (f'What to do: {remedy}. What is finished is kept.')
    )


def _copy_output(process: subprocess.Popen[str], log: Path, line: StepLine) -> None:
    assert process.stdout is not None
    with log.open('a') as sink:
        for text in process.stdout:
            line.detail = describe_line(text) or line.detail
            if not text.startswith('Progress '):
                sink.write(text)
                sink.flush()


def _end_session(process: subprocess.Popen[str]) -> None:
    # SIGINT first: pip then undoes an installation that it is in the middle of.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
