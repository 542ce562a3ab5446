"""How much memory a function takes at its peak, and how much there is."""

import ctypes
import gc
from collections.abc import Callable
from math import inf
from pathlib import Path

import torch

PROCESS = Path('/proc/self')


def peak_extra_bytes(function: Callable[[], object], device: str) -> int:
    """The most bytes that a call holds at once beyond what was held before, its result included.

    On the CPU this is the peak of the process's resident memory (``VmHWM``), whoever takes it:
    PyTorch's allocator, operators with one of their own, NumPy or C++ containers. Freed memory that
    the process has kept is given back to the system first, or its reuse would not be seen. Only
    pages that were written count; Linux counts them to within some hundred kB. A first call loads
    code and makes caches: measure a later one. On CUDA it is the peak of PyTorch's allocator.

    Args:
        function: Called without arguments; it must not free memory that was taken before.
        device: ``'cpu'`` or ``'cuda'``: where the bytes are counted.

    Raises:
        OSError: If the system does not measure a process's peak, as Linux does.
    """
    gc.collect()
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:  # glibc's
        trim(0)
    (PROCESS / 'clear_refs').write_text('5')  # from now on the peak counts anew
    before = _field(PROCESS / 'status', 'VmRSS')
    function()
    return max(_field(PROCESS / 'status', 'VmHWM') - before, 0)


def available_bytes(device: str) -> float:
    """Memory that can be taken without swapping; infinite where the system does not say."""
    if device == 'cuda':
        return torch.cuda.mem_get_info()[0]
    try:
        return _field(Path('/proc/meminfo'), 'MemAvailable')
    except (OSError, StopIteration):
        return inf


def _field(path: Path, name: str) -> int:
    lines = path.read_text().splitlines()
    kibibytes = next(line.split()[1] for line in lines if line.startswith(f'{name}:'))
    return int(kibibytes) * 1024
