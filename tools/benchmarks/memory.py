"""How much memory a function takes at its peak, and how much there is."""

import gc
import os
from collections.abc import Callable
from itertools import accumulate
from math import inf

import torch
from torch.profiler import ProfilerActivity, profile


def peak_extra_bytes(function: Callable[[], object], device: str) -> int:
    """The most bytes of tensors that a call holds at once, its result included.

    On the CPU this is the peak of the running sum of all allocations and frees that PyTorch's
    allocator reports to its profiler. The process's size would not do: it also counts memory that
    was freed and that the next call takes again. What NumPy and C++ containers take is not counted
    on either device.

    Args:
        function: Called without arguments; it must not free tensors that existed before.
        device: ``'cpu'`` or ``'cuda'``: where the bytes are counted.
    """
    gc.collect()
    if device == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    os.environ.setdefault('KINETO_LOG_LEVEL', '9')  # it reports every start and stop otherwise
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0))


def available_bytes(device: str) -> float:
    """Memory that can be taken without swapping; infinite where the system does not say."""
    if device == 'cuda':
        return torch.cuda.mem_get_info()[0]
    try:
        with open('/proc/meminfo') as info:
            kibibytes = next(line.split()[1] for line in info if line.startswith('MemAvailable'))
        return int(kibibytes) * 1024
    except (OSError, StopIteration):
        return inf
