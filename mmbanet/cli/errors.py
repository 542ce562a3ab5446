"""Tells mistakes in a command, a config or a file, which need a message, from defects."""

import dis
import re
import sys
from pathlib import Path
from types import TracebackType

_PACKAGE = Path(__file__).resolve().parents[1]
# Where MMEngine checks what it is given: configs, registered names, the runner's settings.
_MMENGINE = ('config', 'registry', 'runner')
_LOADER = 'torch.utils.data.dataloader'
_WRONG_ARGUMENTS = r'unexpected keyword argument|missing \d+ required|multiple values for'
# What PyTorch makes of an exception in a data loader's worker: the text of its traceback.
_WORKER = re.compile(r'Caught (\w+) in .*?(?P<trace>\n  File .*)\n[\w.]*\1: (?P<message>.*)', re.S)
# What PyTorch and Python report when a machine has too little of something, and what helps; 28, or
# ENOSPC, is the status of mmbanet.engine.workers.
_SHORTAGES = {
    r'DataLoader worker .*(Bus error|exit code 28\b)': (
        'shared memory (/dev/shm) is full: give it more (docker run --shm-size=8g), or take fewer '
        'workers (--cfg-options train_dataloader.num_workers=0 '
        'train_dataloader.persistent_workers=False)'
    ),
    r'DataLoader worker .*(Killed|exited unexpectedly)': (
        "a data loader's worker was ended from outside, as a machine does that has too little "
        'memory, or by an error above: take fewer workers, or a smaller batch'
    ),
    r'Too many open files': (
        "too many open files: allow more ('ulimit -n 4096' in the shell), or take fewer workers"
    ),
    r"can't allocate memory|CUDA out of memory|CUDA error: out of memory": (
        'out of memory: take a smaller batch or smaller images'
    ),
    r"can't start new thread": (
        'no more threads: allow more processes or memory (ulimit -u, ulimit -v), or take fewer '
        'workers'
    ),
}


def expected_message(error: BaseException, tool_folder: Path) -> str | None:
    """The one line that tells a user what is wrong; None for an exception that nobody foresaw.

    Foreseen is what this package, a tool, MMEngine's checks of configs, or PyTorch's of a data
    loader's settings raise by a ``raise`` statement, in the process or in a data loader's worker;
    what the operating system reports of files; arguments in a config that a registered class does
    not take; and shortages of memory, shared memory, files and threads.

    Args:
        error: What a tool raised.
        tool_folder: Folder of the tool's own modules.
    """
    if not isinstance(error, Exception) or isinstance(error, (AssertionError, NotImplementedError)):
        return None
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    shortage = _shortage(error, text)
    if shortage:
        return shortage
    by_raise = _raised_at(error.__traceback__)
    in_worker = _WORKER.fullmatch(text)
    if in_worker:
        text, by_raise = in_worker['message'], _raised_in_text(in_worker['trace'])
    folders = [_PACKAGE, tool_folder]
    if 'mmengine' in sys.modules:
        mmengine = Path(sys.modules['mmengine'].__file__).resolve().parent
        folders += [mmengine / name for name in _MMENGINE]
    if _LOADER in sys.modules:
        folders.append(Path(sys.modules[_LOADER].__file__).resolve())
    foreseen = (
        isinstance(error, OSError)
        or (by_raise is not None and any(by_raise.is_relative_to(path) for path in folders))
        or (
            isinstance(error, TypeError)
            and re.search(_WRONG_ARGUMENTS, text)
            and _within(error.__traceback__, 'build_from_cfg')
        )
    )
    return ' '.join(text.split()) if foreseen else None


def _shortage(error: Exception, text: str) -> str | None:
    """What the machine has too little of, and what helps."""
    if isinstance(error, MemoryError):
        text = "can't allocate memory"
    elif not isinstance(error, (RuntimeError, OSError)):
        return None
    if error.__cause__ is not None:  # what a worker ended with, where PyTorch noticed twice
        text = f'{error.__cause__}\n{text}'
    return next((said for pattern, said in _SHORTAGES.items() if re.search(pattern, text)), None)


def _raised_at(trace: TracebackType) -> Path | None:
    """The file whose ``raise`` statement the exception comes from."""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    operation = dis.opname[code.co_code[trace.tb_lasti]]
    return Path(code.co_filename).resolve() if operation == 'RAISE_VARARGS' else None


def _raised_in_text(trace: str) -> Path | None:
    """The same of a traceback's text."""
    path, line = re.findall(r'\n *File "(.+)", line \d+, in .*\n *(.*)', trace)[-1]
    return Path(path).resolve() if line.startswith('raise ') else None


def _within(trace: TracebackType | None, function: str) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code.co_name == function:
            return True
        trace = trace.tb_next
    return False
