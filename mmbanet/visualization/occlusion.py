"""A picture of occlusion handling: who is in front of whom in an image, and why."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.patheffects import withStroke

from mmbanet.structures import OcclusionGraph

COLORS = mpl.color_sequences['tab10']
REMOVED = '0.55'
# Line and text of a pair, by what became of it.
KINDS = {
    'rule': dict(color='#00c853', linestyle='-'),
    'score': dict(color='#2979ff', linestyle='-'),
    'preference': dict(color='#aa00ff', linestyle='-'),
    'set aside': dict(color='#ff1744', linestyle=(0, (3, 2))),
}
DPI = 100
# Pairs in words; the rest are arrows only.
MAX_LISTED_PAIRS = 40


def draw_occlusion_graph(
    image: np.ndarray,
    masks: np.ndarray,
    graph: OcclusionGraph,
    names: Sequence[str],
    scores: Sequence[float],
    result: np.ndarray | None = None,
    width: int = 1400,
) -> np.ndarray:
    """Draws the objects of an image with the arrows of their occlusion graph.

    On the left the image: the outline and number of each object, grey and dashed for objects that
    were removed, and an arrow from front to behind for every overlapping pair. In the middle the
    panoptic result, if given. On the right the objects and the pairs in words: the first 40 pairs
    and how many more there are.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (K, H, W) bool.
        graph: Of the K objects.
        names: K class names.
        scores: K scores.
        result: (H, W, 3) uint8 RGB, such as :func:`colorize` makes.
        width: Of the picture in pixels.

    Returns:
        (h, width, 3) uint8 RGB.
    """
    lines = _lines(graph, names, scores)
    pictures = [image] if result is None else [image, result]
    columns = [*[1.0] * len(pictures), 0.75]
    aspect = image.shape[0] / image.shape[1]
    picture_height = width / sum(columns) * aspect
    text_height = 17 * (len(lines) + 1)
    figure = Figure(figsize=(width / DPI, (max(picture_height, text_height) + 60) / DPI), dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(columns), width_ratios=columns, squeeze=False)[0]
    for ax, picture in zip(axes, pictures):
        ax.imshow(picture, interpolation='nearest')
    for ax in axes:
        ax.set_anchor('N')
        ax.axis('off')
    axes[0].set_title('who is in front', fontsize=10)
    if result is not None:
        axes[1].set_title('panoptic result', fontsize=10)

    _draw_outlines(axes[0], masks, graph)
    _draw_arrows(axes[0], _anchors(masks), graph)
    _write(axes[-1], lines, text_height / (figure.get_figheight() * DPI - 60))
    figure.legend(handles=_legend(), loc='lower center', ncols=len(KINDS) + 1, fontsize=8)
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 25 / (DPI * figure.get_figheight()))
    figure.subplots_adjust(bottom=35 / (DPI * figure.get_figheight()), wspace=0.03)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def pair_kind(graph: OcclusionGraph, place: int) -> str:
    """Which of ``KINDS`` the pair is."""
    if not graph.accepted[place]:
        return 'set aside'
    rule = graph.rules[place]
    return rule if rule in KINDS else 'rule'


def describe_object(graph: OcclusionGraph, k: int, name: str, score: float) -> str:
    """One line of text, such as ``2  person 0.87 (removed)``."""
    fate = '' if graph.keep[k] else ' (removed)' if graph.areas[k] > 0 else ' (empty)'
    return f'{k}  {name} {score:.2f}{fate}'


def describe_pair(graph: OcclusionGraph, place: int) -> str:
    """One line of text, such as ``2 > 0  MeanColor 0.07, overlap 100%``."""
    front, behind = graph.pairs[place].tolist()
    text = f'{front} > {behind}  {graph.rules[place]}'
    if graph.evidence[place] > 0:
        text += f' {graph.evidence[place]:.3g}'
    text += f', overlap {graph.share[place]:.0%}'
    return text if graph.accepted[place] else text + ', set aside'


def _color(graph: OcclusionGraph, k: int) -> tuple | str:
    return COLORS[k % len(COLORS)] if graph.keep[k] else REMOVED


def _anchors(masks: np.ndarray) -> np.ndarray:
    """(K, 2) x, y: the pixel deepest inside what an object alone claims, else inside its mask."""
    alone = masks & (masks.sum(axis=0) == 1)
    anchors = np.zeros((len(masks), 2))
    for k, mask in enumerate(masks):
        inside = alone[k] if alone[k].sum() > 0.2 * mask.sum() else mask
        padded = np.pad(inside.astype(np.uint8), 1)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
        anchors[k] = np.unravel_index(depth.argmax(), depth.shape)[::-1]
    return anchors


def _draw_outlines(ax: Axes, masks: np.ndarray, graph: OcclusionGraph) -> None:
    for k, mask in enumerate(masks):
        if mask.any():
            # A margin, so that outlines close at the edge of the image.
            padded = np.pad(mask.astype(float), 1)
            y, x = (np.arange(n) - 1 for n in padded.shape)
            style = 'solid' if graph.keep[k] else 'dashed'
            # White below the colour, to be seen on any background.
            ax.contour(x, y, padded, [0.5], colors='white', linewidths=3.5, alpha=0.6)
            outline = dict(colors=[_color(graph, k)], linestyles=style, linewidths=2)
            ax.contour(x, y, padded, [0.5], **outline)
    height, width = masks.shape[1:]
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _draw_arrows(ax: Axes, anchors: np.ndarray, graph: OcclusionGraph) -> None:
    for place, (front, behind) in enumerate(graph.pairs.tolist()):
        arrow = FancyArrowPatch(
            anchors[front],
            anchors[behind],
            arrowstyle='-|>',
            mutation_scale=16,
            connectionstyle='arc3,rad=0.2',
            shrinkA=9,
            shrinkB=9,
            linewidth=2.2,
            **KINDS[pair_kind(graph, place)],
        )
        arrow.set_path_effects([withStroke(linewidth=4, foreground='white')])
        ax.add_patch(arrow)
    for k, (x, y) in enumerate(anchors):
        if graph.areas[k] > 0:
            box = dict(boxstyle='circle,pad=0.25', facecolor=_color(graph, k), edgecolor='white')
            ax.text(x, y, str(k), color='white', fontsize=9, ha='center', va='center', bbox=box)


def _lines(
    graph: OcclusionGraph, names: Sequence[str], scores: Sequence[float]
) -> list[tuple[str, str, str]]:
    """(text, weight, colour) of each line on objects and pairs."""
    lines = [('objects, in descending score', 'bold', 'black')]
    for k, (name, score) in enumerate(zip(names, scores)):
        color = 'black' if graph.keep[k] else REMOVED
        lines.append((describe_object(graph, k, name, score), 'normal', color))
    lines += [('', 'normal', 'black'), ('pairs: front > behind', 'bold', 'black')]
    for place in range(min(len(graph.pairs), MAX_LISTED_PAIRS)):
        color = KINDS[pair_kind(graph, place)]['color']
        lines.append((describe_pair(graph, place), 'normal', color))
    if len(graph.pairs) > MAX_LISTED_PAIRS:
        lines.append((f'and {len(graph.pairs) - MAX_LISTED_PAIRS} more', 'normal', 'black'))
    return lines


def _write(ax: Axes, lines: list[tuple[str, str, str]], share: float) -> None:
    """Writes lines of text that take ``share`` of the height."""
    step = min(share, 1) / (len(lines) + 1)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    for i, (text, weight, color) in enumerate(lines):
        ax.text(0.02, 1 - step * (i + 0.8), text, fontsize=9, color=color, weight=weight)


def _legend() -> list[Line2D]:
    labels = {
        'rule': 'order rule',
        'score': 'higher score',
        'preference': 'preference given',
        'set aside': 'set aside: contradicts higher scores',
    }
    handles = [Line2D([], [], linewidth=2, label=labels[k], **KINDS[k]) for k in KINDS]
    removed = dict(color=REMOVED, linestyle='--', label='removed: lost most of its area')
    return [*handles, Line2D([], [], linewidth=2, **removed)]
