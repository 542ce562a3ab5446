"""Child processes: the tools as a user runs them, started in a fraction of a second.

They are forked from a server that has imported what takes seconds, in a session of their own, with
their output in a file.
"""

from __future__ import annotations

import ast
import multiprocessing
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

TOOLS = Path(__file__).resolve().parents[1]
#: What takes seconds to import; torch's optimizers import the first.
PRELOADED = (
    'torch._dynamo',
    *(f'mmbanet.{name}' for name in ('apis', 'datasets', 'engine', 'evaluation', 'models')),
)
_SERVER = multiprocessing.get_context('forkserver')
# The server looks at PYTHONPATH, not at sys.path: in the tests it finds what is installed only.
_SERVER.set_forkserver_preload([f'{__package__}.preloaded', *PRELOADED])
#: What a tool's output begins with.
BEGUN = 'begun'
# What is taken out, in the children as well.
_taken_out: list[Callable[[], AbstractContextManager]] = []


@contextmanager
def taken_out(protection: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Without a protection, here and in the children that are started meanwhile."""
    _taken_out.append(protection)
    try:
        with protection():
            yield
    finally:
        _taken_out.remove(protection)


class Child:
    """A running function.

    Args:
        function: Of a module.
        arguments: Its own.
        folder: Becomes its current folder; made if it is not there.
        environment: Changed variables.

    Attributes:
        output: File with what it prints.
    """

    def __init__(
        self,
        function: Callable,
        *arguments: Any,
        folder: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / f'output_{time.monotonic_ns()}.txt'
        self._process = _SERVER.Process(
            target=_run,
            args=(function, arguments, folder, self.output, environment or {}, list(_taken_out)),
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its id, and that of its process group."""
        return self._process.pid

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors='replace') if self.output.exists() else ''

    def wait_for(self, moment: str | Path, times: int = 1, seconds: float = 120) -> bool:
        """Waits until it has printed a text so many times or made a file; False: it has ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = not self._process.is_alive()
            is_file = isinstance(moment, Path)
            if moment.exists() if is_file else self.text().count(moment) >= times:
                return True
            if ended:
                return False
            time.sleep(0.002)
        self.kill()
        raise TimeoutError(f'{seconds} seconds without {moment}: {self.last_line()}')

    def wait(self, seconds: float = 300) -> int:
        """Its exit status, negative for a signal; it is killed when the time is up."""
        self._process.join(seconds)
        if self._process.is_alive():
            self.kill()
            raise TimeoutError(f'not at its end after {seconds} seconds: {self.last_line()}')
        self.signal(signal.SIGKILL)  # what it has left behind
        return self._process.exitcode

    def signal(self, number: int) -> None:
        """Sends a signal to it and its workers."""
        with suppress(ProcessLookupError):  # it has ended, or not yet made its group
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Ends it and its workers at once."""
        self.signal(signal.SIGKILL)
        self._process.kill()
        self._process.join()

    def last_line(self) -> str:
        """Of what it has printed."""
        lines = [line for line in self.text().splitlines() if line.strip()]
        return lines[-1] if lines else ''


def start_tool(name: str, *arguments: object, folder: Path, **environment: str) -> Child:
    """Starts ``tools/NAME`` with arguments, or ``mmbanet COMMAND`` for a name without ``.py``."""
    return Child(call_tool, name, arguments, folder=folder, environment=environment)


def run_tool(name: str, *arguments: object, folder: Path, **environment: str) -> tuple[int, Child]:
    """The same, to its end: the exit status, and the process for its output."""
    child = start_tool(name, *arguments, folder=folder, **environment)
    return child.wait(), child


def one_line(status: int, child: Child, tool: str, *parts: str) -> str | None:
    """What is wrong with the end of a tool that should have refused with one line; else None.

    Args:
        status: Its exit status.
        child: The tool's process.
        tool: What the line starts with.
        parts: What it must contain.
    """
    line, text = child.last_line(), child.text()
    if status != 1:
        return f'ended with status {status}: {line}'
    if 'Traceback' in text:
        return f'a traceback: {line}'
    if not line.startswith(f'{tool}: '):
        return f'the last line is not its own: {line}'
    missing = [part for part in parts if part not in line]
    return f'does not say {missing}: {line}' if missing else None


def call_tool(name: str, arguments: Sequence[object]) -> None:
    """Runs a tool in this process, as :func:`start_tool` does in a child."""
    print(BEGUN, flush=True)
    if name.endswith('.py'):
        sys.path.insert(0, str(TOOLS))
        sys.argv = [str(TOOLS / name), *map(str, arguments)]
        runpy.run_path(sys.argv[0], run_name='__main__')
    else:
        from mmbanet.cli.main import main

        sys.argv = ['mmbanet', name, *map(str, arguments)]
        main()


def _run(
    function: Callable,
    arguments: tuple,
    folder: Path,
    output: Path,
    environment: dict[str, str],
    without: list[Callable[[], AbstractContextManager]],
) -> None:
    os.setsid()
    with output.open('wb') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    # The streams of the server, which wrote nothing, are not the file's.
    sys.stdout = os.fdopen(1, 'w', buffering=1)
    sys.stderr = os.fdopen(2, 'w', buffering=1)
    os.environ.update(environment)
    os.chdir(folder)
    import torch
    from yapf.yapflib import yapf_api

    torch.set_num_threads(1)
    # MMEngine's runner lays out the text of its config five times, which takes five seconds.
    yapf_api.FormatCode = _unformatted
    status = 0
    with ExitStack() as stack:
        for protection in without:
            stack.enter_context(protection())
        try:
            function(*arguments)
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
    sys.exit(status)


def _unformatted(text: str, **_: Any) -> tuple[str, bool]:
    ast.parse(text)
    return text, True
