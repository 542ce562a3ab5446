"""COCO's run-length encoded masks: as JSON holds them, and checked before they are decoded."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


def encode_rle(mask: np.ndarray) -> dict:
    """A mask (H, W) bool as COCO's compressed RLE, ``counts`` as ASCII for JSON."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def decode_rle(rle: dict, size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) bool.

    Args, Raises: As :func:`check_rle`.
    """
    check_rle(rle, size)
    if isinstance(rle['counts'], list):
        rle = coco_mask.frPyObjects(rle, *size)
    return coco_mask.decode(rle).astype(bool)


def check_rle(rle: dict, size: tuple[int, int]) -> None:
    """Raises a ValueError unless a mask is one that pycocotools, which does not look, can decode.

    Args:
        rle: With ``size`` [H, W] and ``counts``: compressed text, or a list of the runs' lengths.
        size: H and W of the image.
    """
    if not isinstance(rle, dict) or not {'size', 'counts'} <= set(rle):
        raise ValueError(
            f'expected a run-length encoded mask with size and counts, got {rle!r:.80}'
        )
    if rle['size'] != list(size):
        raise ValueError(f"a mask of the size {rle['size']}, the image's is {list(size)}")
    counts = rle['counts']
    runs = counts if isinstance(counts, list) else _run_lengths(counts)
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise ValueError(f'the runs of the mask do not fill {size[0]}x{size[1]} pixels')


def _run_lengths(counts: str | bytes) -> list[int]:
    """What compressed counts say: 5 bits a character, from the third run on as differences."""
    if not isinstance(counts, str | bytes):
        raise ValueError(f'counts of a mask must be text or a list, got {type(counts).__name__}')
    characters = counts.encode() if isinstance(counts, str) else counts
    runs, value, shift = [], 0, 0
    for character in characters:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f'counts of a mask hold the character {chr(character)!r}')
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError('counts of a mask end in the middle of a run')
    return runs
