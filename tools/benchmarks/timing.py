"""Times functions side by side, so that a ratio survives a noisy machine."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

PAUSE_CYCLES = 10_000_000  # some milliseconds, in which a backward pass is launched too


def time_side_by_side(
    functions: dict[str, Callable[[], object]], device: str, seconds: float = 1.0, least: int = 3
) -> dict[str, float]:
    """Median milliseconds of each function.

    The functions take turns, so that what slows the machine down slows all of them alike. One whose
    first call takes longer than ``seconds`` is not called again.

    Args:
        functions: By name; called without arguments.
        device: On ``'cuda'`` the time is the GPU's own, by events of the current stream: without
            that in which the host launches, unless the function itself waits for the GPU.
        seconds: Time to spend on all of them together, beside a first call each.
        least: Rounds at the least.
    """
    if device == 'cuda':  # a first call loads kernels
        for function in functions.values():
            function()
    first = {name: _milliseconds(function, device) for name, function in functions.items()}
    repeated = [name for name, duration in first.items() if duration < 1e3 * seconds]
    samples = {name: [] for name in repeated}
    start, rounds = time.perf_counter(), 0
    while repeated and (time.perf_counter() - start < seconds or rounds < least):
        rounds += 1
        for name in repeated:
            samples[name].append(_milliseconds(functions[name], device))
    return {
        name: statistics.median(samples[name]) if name in samples else first[name]
        for name in functions
    }


def copy_bandwidth(device: str, megabytes: int = 256) -> float:
    """Bytes read and written a second by a copy between two warm buffers."""
    source = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(source).fill_(0)
    times = time_side_by_side({'copy': lambda: target.copy_(source)}, device, least=7)
    return 2 * source.nbytes / (times['copy'] / 1e3)


def growth(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent of cost ~ size^exponent, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def machine(device: str) -> dict[str, str | int]:
    """What the figures depend on, to be written beside them."""
    facts = {'torch': torch.__version__, 'python': platform.python_version()}
    if device == 'cuda':
        return facts | {'device': torch.cuda.get_device_name(), 'cuda': torch.version.cuda}
    return facts | {'device': _processor(), 'threads': torch.get_num_threads()}


def _milliseconds(function: Callable[[], object], device: str) -> float:
    if device == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(PAUSE_CYCLES)  # what follows is launched meanwhile
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def _processor() -> str:
    try:
        with open('/proc/cpuinfo') as info:
            names = [line.partition(':')[2].strip() for line in info if 'model name' in line]
        return f'{names[0]}, {len(names)} cores visible'
    except (OSError, IndexError):
        return platform.processor() or 'unknown'
