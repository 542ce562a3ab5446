"""Charts as SVG for an HTML page, legible on light and dark: colours are those of its style.

The page's style says what ``--accent`` is; text is in the colour of the page's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

CELL, LABEL, LETTER = 44, 26, 7.2
SIDE, MARGIN = 320, 44


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    shade: Sequence[Sequence[float]],
    text: Callable[[float], str],
    caption: str,
    marked: tuple[int, int] | None = None,
) -> str:
    """A table of numbers, the darker the larger.

    Args:
        rows: Names, shortened where they are long.
        columns: Names.
        values: Of each row in each column; None is left empty.
        shade: 0..1 of each.
        text: What is written of a value.
        caption: For who cannot see it.
        marked: Row and column of a cell that has a frame.
    """
    names = [_short(name) for name in rows]
    left = 12 + LETTER * max(map(len, names), default=0)
    top = 12 + LETTER * 0.75 * max((len(_short(name)) for name in columns), default=0)
    parts = []
    for i, (name, full) in enumerate(zip(names, rows)):
        y = top + (i + 0.5) * LABEL
        parts.append(_text(left - 6, y, name, full, 'end'))
    for j, name in enumerate(columns):
        x = left + (j + 0.5) * CELL
        turn = f'rotate(-45 {x:.0f} {top - 6:.0f})'
        parts.append(_text(x, top - 6, _short(name), name, 'start', turn))
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if value is None:
                continue
            x, y = left + j * CELL, top + i * LABEL
            what = escape(f'{rows[i]}, {columns[j]}: {text(value)}')
            frame = ' class="marked"' if (i, j) == marked else ''
            parts.append(
                f'<g><title>{what}</title><rect x="{x:.1f}" y="{y:.1f}" width="{CELL - 1}" '
                f'height="{LABEL - 1}" fill-opacity="{0.75 * shade[i][j]:.3f}"{frame}/>'
                f'{_text(x + CELL / 2, y + LABEL / 2, text(value))}</g>'
            )
    # The last names lean out to the right as far as the longest one is high.
    return _svg(left + CELL * len(columns) + top, top + LABEL * len(rows), parts, caption)


def reliability_diagram(bins: Sequence[dict], caption: str) -> str:
    """The share that is right over the score: on the diagonal, scores say what they should.

    Args:
        bins: Of :func:`mmbanet.evaluation.panoptic_breakdown.reliability`.
        caption: For who cannot see it.
    """
    left, bottom = MARGIN, SIDE + 20  # with room for a number above a full bar
    most = max((b['count'] for b in bins), default=0)
    parts = []
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        place = SIDE * tick
        parts.append(_text(left + place, bottom + 16, f'{tick:g}'))
        parts.append(_text(left - 8, bottom - place, f'{100 * tick:.0f}', anchor='end'))
        parts.append(
            f'<line class="grid" x1="{left}" x2="{left + SIDE}" y1="{bottom - place:.1f}" '
            f'y2="{bottom - place:.1f}"/>'
        )
    for b in bins:
        if not b['count']:
            continue
        x, height = left + SIDE * b['low'], SIDE * b['right'] / 100
        width = SIDE * (b['high'] - b['low']) - 2
        what = (
            f'score {b["low"]:.1f} to {b["high"]:.1f}: {b["right"]:.1f}% of {b["count"]} are '
            f'right, mean score {b["score"] / 100:.3f}'
        )
        parts.append(
            f'<g><title>{what}</title><rect x="{x + 1:.1f}" y="{bottom - height:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" '
            f'fill-opacity="{0.25 + 0.6 * b["count"] / most:.3f}"/>'
            f'{_text(x + width / 2, bottom - height - 8, str(b["count"]))}</g>'
        )
    ends = f'x1="{left}" y1="{bottom}" x2="{left + SIDE}" y2="{bottom - SIDE}"'
    parts.append(f'<line class="diagonal" {ends}/>')
    parts.append(_text(left + SIDE / 2, bottom + 34, 'score'))
    parts.append(
        _text(10, bottom - SIDE / 2, 'right, %', turn=f'rotate(-90 10 {bottom - SIDE / 2:.0f})')
    )
    return _svg(left + SIDE + MARGIN / 2, bottom + MARGIN, parts, caption)


def _svg(width: float, height: float, parts: Sequence[str], caption: str) -> str:
    return (
        f'<svg role="img" aria-label="{escape(caption)}" width="{width:.0f}" '
        f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">{"".join(parts)}</svg>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    full: str | None = None,
    anchor: str = 'middle',
    turn: str | None = None,
) -> str:
    """Text beside a point; what it is short for is shown when it is pointed at."""
    title = f'<title>{escape(full)}</title>' if full not in (None, text) else ''
    turned = f' transform="{turn}"' if turn else ''
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>{title}{escape(text)}</text>'
    )


def _short(name: str, most: int = 18) -> str:
    return name if len(name) <= most else name[: most - 1] + '…'
