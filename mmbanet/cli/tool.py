"""Runs a tool so that an interruption or a mistake ends it with one line, not with a traceback."""

import importlib.util
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from types import FrameType, ModuleType

from .errors import expected_message

#: What a shell reports of a program that Ctrl-C ended: 128 + SIGINT.
INTERRUPTED = 130
# Seconds that an interrupted tool has to tidy up, where something swallows the interruption.
PATIENCE = 5.0


def run_tool(path: str, go_on: str, name: str | None = None) -> None:
    """Imports a tool's file as a module and calls its ``main``.

    A tool calls it above its other imports, which take seconds and can be interrupted, too::

        from mmbanet.cli import run_tool

        if __name__ == '__main__':
            run_tool(__file__, 'the same command goes on')

    Ctrl-C prints ``TOOL: interrupted; GO_ON`` and ends with status 130, at the latest after five
    seconds; forked workers leave the answer to their parent. An error that the package foresees
    (:func:`mmbanet.cli.errors.expected_message`) prints ``TOOL: MESSAGE`` and ends with status 1.
    Any other exception keeps its traceback.

    Args:
        path: The tool's file, ``__file__``.
        go_on: What to do after an interruption.
        name: TOOL, the file's by default.
    """
    name = name or Path(path).name
    # A log that cannot be written, on a full disk, is not worth a traceback a line.
    logging.raiseExceptions = False
    interruption = _Interruption(f'{name}: interrupted; {go_on}')
    previous = signal.getsignal(signal.SIGINT)
    # A shell's background jobs ignore it, which is to stay so.
    if previous is signal.default_int_handler:
        signal.signal(signal.SIGINT, interruption.answer)
    try:
        _load(path).main()
    except BaseException as error:
        if interruption.happened or isinstance(error, KeyboardInterrupt):
            interruption.end()
        message = expected_message(error, Path(path).resolve().parent)
        if message is None:
            raise
        sys.exit(f'{name}: {message}')
    else:
        if interruption.happened:  # and was swallowed
            interruption.end()
    finally:
        # All is done: the interpreter's own last steps are not worth an answer.
        as_script = os.path.realpath(sys.argv[0]) == os.path.realpath(path)
        signal.signal(signal.SIGINT, signal.SIG_IGN if as_script else previous)


def _load(path: str) -> ModuleType:
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as any import does, for pickle's sake
    with quiet_imports():
        spec.loader.exec_module(module)
    return module


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Where mmdet is imported, which prints then which of its optional parts are not there."""
    warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
    with redirect_stdout(StringIO()):
        yield


class _Interruption:
    """What happens at Ctrl-C: the line, then ``KeyboardInterrupt``, then the end.

    Args:
        line: To be printed.
    """

    def __init__(self, line: str) -> None:
        self.line = line
        self.happened = False
        self._process = os.getpid()

    def answer(self, _signal: int, _frame: FrameType | None) -> None:
        """The handler of SIGINT."""
        if os.getpid() != self._process:
            return
        if self.happened:
            self.end()
        self._announce()
        timer = threading.Timer(PATIENCE, self.end)
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    def end(self) -> None:
        """Ends the process and its workers at once."""
        self._announce()
        # Not by SystemExit: what runs then can hang, fail, and waits for the workers.
        with suppress(Exception):
            for child in sys.modules['multiprocessing'].active_children():
                child.kill()
        os._exit(INTERRUPTED)

    def _announce(self) -> None:
        """Prints the line; nothing that is written afterwards is seen."""
        if self.happened:
            return
        self.happened = True
        with suppress(Exception):
            sys.stdout.flush()
        # Of several ranks one is enough. Not by print: it may be what was interrupted.
        if os.environ.get('LOCAL_RANK', '0') == '0':
            start = '\n' if os.isatty(2) else ''  # the terminal shows ^C
            os.write(2, f'{start}{self.line}\n'.encode())
        # Many a destructor and worker complains when it is interrupted.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
