"""Shares with confidence intervals, and whether two rules differ by more than chance.

Shapes: N pairs, G images.
"""

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 2000


def share(values: np.ndarray, scene: np.ndarray, seed: int = 0) -> dict:
    """The mean in percent, with its 95% interval by bootstrap over images.

    Args:
        values: (N,) 0..1.
        scene: (N,) int, the image of each; pairs of an image are not independent.
        seed: Of the resampling.

    Returns:
        ``percent``, ``low``, ``high`` and ``pairs``; without pairs only the last.
    """
    if len(values) == 0:
        return dict(pairs=0)
    _, image = np.unique(scene, return_inverse=True)
    right, count = np.bincount(image, values), np.bincount(image)
    draws = np.random.default_rng(seed).multinomial(
        len(count), np.full(len(count), 1 / len(count)), RESAMPLES
    )
    low, high = np.quantile(draws @ right / (draws @ count), [0.025, 0.975])
    percent = {'percent': values.mean(), 'low': low, 'high': high}
    return {name: round(100 * float(v), 2) for name, v in percent.items()} | {'pairs': len(values)}


def mcnemar(right: np.ndarray, other: np.ndarray) -> dict:
    """McNemar's exact test of two rules, (N,) bool each, on the same pairs.

    Returns:
        ``only_first`` and ``only_second``, the pairs that one rule alone orders rightly, and ``p``,
        how likely such a difference is between rules that are equally good.
    """
    first, second = int((right & ~other).sum()), int((other & ~right).sum())
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return dict(only_first=first, only_second=second, p=float(p))
