"""Random sets of arguments, and whether the operators agree on them with what they should make.

RoIInlay and RoIUpsample have to agree with the CPU and in both layouts.

Shapes: crops (K, C, h, w), rois (K, 5), maps (N, C, H, W).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_outcomes import CheckError, Settings
from torch import Tensor

# Where the tests' random cases are found, after an installed mmbanet.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from mmbanet.ops import resized_argmax
from tests.test_ops.reference import argmax_regret
from tests.test_ops.samples import random_case, random_resize

# Of an element's error relative to what the operator makes of absolute values (at least 1): a few
# roundings of the dtype that is accumulated in, and one of the dtype itself.
TOLERANCES = {
    torch.float64: 1e-11,
    torch.float32: 1e-5,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}
LAYOUTS = (torch.contiguous_format, torch.channels_last)
# Whole vectors of every dtype, none, and more than a block of threads makes at a time.
CHANNELS = (1, 2, 3, 4, 8, 31, 64, 136, 257)
BAD_COORDINATES = (float('nan'), float('inf'), float('-inf'), 1e30, -1e30, 1e9, -1e9)
BAD_IMAGES = (float('nan'), float('inf'), -1.0, 99.0, 1e30, -1e-3)
SECONDS_BETWEEN_LINES = 15.0


class Operator(NamedTuple):
    """One of the operators; ``options`` follow its other arguments."""

    name: str
    options: tuple[bool, ...]
    # Sums with atomics on CUDA: the last bits of its output differ between runs.
    atomic: bool

    def forward(self, case: dict[str, Any], crops: Tensor) -> Tensor:
        """Map of the case's RoIs, which are brought to the device of ``crops``."""
        operator = getattr(torch.ops.mmbanet, self.name)
        sizes = (case['batch_size'], *case['output_size'])
        return operator(crops, case['rois'].to(crops.device), *sizes, *self._scale(case))

    def backward(self, case: dict[str, Any], grad: Tensor) -> Tensor:
        """Gradient of the crops."""
        operator = getattr(torch.ops.mmbanet, f'{self.name}_backward')
        sizes = case['input'].shape[2:]
        return operator(grad, case['rois'].to(grad.device), *sizes, *self._scale(case))

    def _scale(self, case: dict[str, Any]) -> tuple[object, ...]:
        return (case['spatial_scale'], case['aligned'], *self.options)


OPERATORS = (
    Operator('roi_inlay', (), atomic=False),
    Operator('roi_upsample', (False,), atomic=True),
    Operator('roi_upsample', (True,), atomic=True),
)


def random_set(seed: int) -> dict[str, Any]:
    """A random case in float64 with float32 RoIs.

    On a small map with any number of channels, or on one of many tiles. In every second set some
    RoIs have NaN, infinite or huge coordinates.
    """
    case = random_case(seed, torch.float64)
    generator = torch.Generator().manual_seed(seed)

    def pick(values: tuple[Any, ...]) -> Any:
        return values[int(torch.randint(len(values), (), generator=generator))]

    crops, rois, zoom = case['input'], case['rois'].float(), pick((1, 1, 1, 5))
    shape = (len(crops), pick(CHANNELS[: 5 if zoom > 1 else None]), *crops.shape[2:])
    rois[:, 1:] *= zoom
    if seed % 2:
        for k in (torch.rand(len(rois), generator=generator) < 0.2).nonzero()[:, 0].tolist():
            rois[k, pick((1, 2, 3, 4))] = pick(BAD_COORDINATES)
    return {
        **case,
        'input': torch.randn(shape, generator=generator, dtype=torch.float64),
        'rois': rois,
        'output_size': tuple(zoom * side for side in case['output_size']),
    }


def with_bad_images(case: dict[str, Any], seed: int) -> dict[str, Any]:
    """The case with an image index out of range in every fifth RoI, as only CUDA takes it."""
    rois = case['rois'].clone()
    for k in range(seed % 5, len(rois), 5):
        rois[k, 0] = BAD_IMAGES[(seed + k) % len(BAD_IMAGES)]
    return {**case, 'rois': rois}


def without_bad_images(case: dict[str, Any]) -> dict[str, Any]:
    """What the case means: such RoIs cover nothing, whatever their image."""
    rois = case['rois'].clone()
    bad = ~((rois[:, 0] >= 0) & (rois[:, 0] < case['batch_size']))
    rois[bad] = 0.0
    return {**case, 'rois': rois}


def mismatches(case: dict[str, Any], seed: int, device: str) -> Iterator[str]:
    """What is wrong with the operators' results on the device, a line each.

    Both directions in all dtypes and layouts are compared with the CPU in float64; the layouts have
    to agree with each other to the last bit, but for sums with atomics.
    """
    expected_case = without_bad_images(case)
    generator = torch.Generator().manual_seed(seed)
    size = (case['batch_size'], case['input'].shape[1], *case['output_size'])
    grad = torch.randn(size, generator=generator, dtype=torch.float64)
    for operator in OPERATORS:
        for direction, features in (('forward', case['input']), ('backward', grad)):
            for dtype, tolerance in TOLERANCES.items():
                name = f'seed {seed}: {operator.name}{operator.options} {direction} {dtype}'
                values = features.to(dtype)
                expected = getattr(operator, direction)(expected_case, values.double())
                scale = getattr(operator, direction)(expected_case, values.double().abs())
                results = []
                for layout in LAYOUTS:
                    given = values.to(device).contiguous(memory_format=layout)
                    result = getattr(operator, direction)(case, given)
                    if not same_layout(given, result):
                        yield f'{name}: {layout} in, strides {result.stride()} out'
                    results.append(result.cpu())
                    error = (results[-1].double() - expected).abs()
                    wrong = ~(error <= tolerance * scale.clamp(min=1))
                    if wrong.any():
                        yield f'{name} {layout}: off by {error[wrong].max():.3g}'
                if not (operator.atomic and direction == 'forward') and not same_bits(*results):
                    yield f'{name}: the layouts differ'


def argmax_mismatches(seed: int, device: str) -> Iterator[str]:
    """Where resized_argmax chooses worse than rounding explains, a line each."""
    for dtype in TOLERANCES:
        case = random_resize(seed, dtype)
        on_device = {k: v if v is None else v.to(device) for k, v in case.items()}
        classes = resized_argmax(**on_device).cpu()
        regret = argmax_regret(classes, **{**case, 'logits': case['logits'].double()})
        if not regret <= (1e-11 if dtype == torch.float64 else 1e-5):
            yield f'seed {seed}: resized_argmax {dtype}: off by {regret:.3g}'


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether both are contiguous in a common memory format; one channel or pixel fits both."""
    return any(
        a.is_contiguous(memory_format=layout) and b.is_contiguous(memory_format=layout)
        for layout in LAYOUTS
    )


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape hold the same, NaN included."""
    return torch.equal(*(_bytes(tensor) for tensor in (a, b)))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def check_parity(settings: Settings) -> str:
    """The device agrees with the CPU on random sets of RoIs, and the layouts with each other."""
    bad_images = 0

    def check(seed: int) -> Iterator[str]:
        nonlocal bad_images
        case = random_set(seed)
        # The CPU raises for them.
        if settings.device == 'cuda' and seed % 3 == 0:
            case = with_bad_images(case, seed)
            bad_images += 1
        return mismatches(case, seed, settings.device)

    sets = _check_sets('parity', check, settings)
    return (
        f'{sets} ({bad_images:,} with image indices out of range) x {len(OPERATORS)} operators x '
        f'2 directions x {len(TOLERANCES)} dtypes x {len(LAYOUTS)} layouts agree with the CPU'
    )


def check_argmax(settings: Settings) -> str:
    """resized_argmax on the device agrees with its definition."""
    sets = _check_sets('argmax', partial(argmax_mismatches, device=settings.device), settings)
    return f'{sets} x {len(TOLERANCES)} dtypes agree with the definition'


def _check_sets(name: str, check: Callable[[int], Iterator[str]], settings: Settings) -> str:
    """How many sets there was time for; raises CheckError for the first mismatch of one."""
    last_line = time.monotonic()
    for done in range(settings.sets):
        # One is always checked.
        if done and settings.time_left() < 0:
            return f'{done:,} sets of {settings.sets:,}'
        for mismatch in check(settings.seed + done):
            raise CheckError(f'after {done:,} sets: {mismatch}')
        if time.monotonic() - last_line >= SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            print(f'      {name}: {done + 1:,} of {settings.sets:,} sets', flush=True)
    return f'{settings.sets:,} sets'


def main() -> None:
    """Checks sets in this very process, for a debugger or compute-sanitizer to watch."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda')
    parser.add_argument('--sets', type=int, default=10)
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    settings = Settings(arguments.device, arguments.sets, arguments.seed, Path(), math.inf)
    print(check_parity(settings))
    print(check_argmax(settings))


if __name__ == '__main__':
    main()
