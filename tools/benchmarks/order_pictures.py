"""Pairs that one order rule orders rightly and another one wrongly, as pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from order_inputs import Scene

MARGIN = 10  # pixels of the image around both masks
COLORS = {'front': 'lime', 'behind': 'magenta'}


def draw_examples(
    load: Callable[[int], Scene],
    scenes: np.ndarray,
    evidence: dict[str, np.ndarray],
    rules: tuple[str, str],
    path: Path,
    columns: int = 6,
) -> None:
    """Two rows: where only the second rule is right, and where only the first one is.

    Each row shows the pairs, one of a scene, of which the rule that is right is surest.

    Args:
        load: Gives the scene of a number.
        scenes: (N,) numbers of the pairs' scenes, ascending.
        evidence: By rule (N,), for the truth.
        rules: Names of two of them.
        path: Of the PNG.
        columns: Pairs of a row.
    """
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, columns, figsize=(2.6 * columns, 5.6), squeeze=False)
    for line, (wrong, right) in zip(axes, (rules, rules[::-1])):
        only = (evidence[wrong] < 0) & (evidence[right] > 0)
        surest = only.nonzero()[0][np.argsort(-evidence[right][only], kind='stable')]
        _, first = np.unique(scenes[surest], return_index=True)
        for axis in line:
            axis.axis('off')
        line[0].set_title(f'right: {right}; wrong: {wrong}', loc='left', fontsize='small')
        for axis, pair in zip(line, surest[np.sort(first)]):
            number = scenes[pair]
            _draw(axis, load(number), pair - np.searchsorted(scenes, number))
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw(axis, scene: Scene, place: int) -> None:
    """The masks of a pair as outlines over its part of the image."""
    masks = scene.masks[scene.pairs[place]].numpy()
    rows, columns = masks.any(axis=0).nonzero()
    box = [(max(side.min() - MARGIN, 0), side.max() + 1 + MARGIN) for side in (rows, columns)]
    window = tuple(slice(*ends) for ends in box)
    axis.imshow(scene.image.permute(1, 2, 0).numpy()[window])
    for mask, color in zip(masks, COLORS.values()):
        axis.contour(mask[window], [0.5], colors=color, linewidths=1)
