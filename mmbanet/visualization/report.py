"""A report of a panoptic model as one HTML page: tables, charts and pictures in it, no server."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

import cv2
import numpy as np

from .charts import heat_map, reliability_diagram
from .gallery import View
from .picture import draw_panoptic

QUALITIES = ('PQ', 'SQ', 'RQ')
COUNTS = ('TP', 'FP', 'FN')
MEANS = (*QUALITIES, 'classes')
# Rows of a confusion chart, and of the list of confusions.
MOST_CLASSES, MOST_CONFUSIONS = 30, 20
# Longer side of a picture, in pixels: small images are enlarged, or names would not fit.
SMALLEST, LARGEST = 480, 720
JPEG_QUALITY = 80
PLACE = re.compile('__(TITLE|BODY)__')
KINDS = dict(same_class='of one class', small_on_large='small on large', alike='alike in colour')


class Example(NamedTuple):
    """An image to be shown.

    Attributes:
        name: To be shown.
        pq: 0..1.
        pictures: What is seen and its picture, :func:`draw_view`.
    """

    name: str
    pq: float
    pictures: list[tuple[str, str]]


def draw_view(
    photo: np.ndarray | None,
    view: View,
    classes: Sequence[str],
    palette: Sequence[tuple[int, int, int]],
) -> str:
    """A map over its image as a URL that holds the picture.

    Args:
        photo: (H, W, 3) uint8 RGB; None: over grey.
        view: The map (H, W).
        classes: Names.
        palette: RGB of each class.
    """
    height, width = view.panoptic.shape
    longer = max(height, width)
    scale = min(max(longer, SMALLEST), LARGEST) / longer
    size = [max(1, round(side * scale)) for side in (width, height)]
    if photo is None:
        photo = np.full((height, width, 3), 128, np.uint8)
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    panoptic = cv2.resize(view.panoptic.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
    picture = draw_panoptic(
        cv2.resize(photo, size, interpolation=kind),
        panoptic,
        classes,
        palette,
        view.marks,
        legend=False,
    )
    options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    data = cv2.imencode('.jpg', np.ascontiguousarray(picture[..., ::-1]), options)[1]
    return f'data:image/jpeg;base64,{base64.b64encode(data).decode()}'


def report_page(
    title: str,
    facts: Sequence[str],
    numbers: dict,
    worst: Sequence[Example],
    best: Sequence[Example],
) -> str:
    """The page.

    Args:
        title: Of the page.
        facts: What was reported on and what was left out, a line each.
        numbers: Of :meth:`mmbanet.evaluation.panoptic_breakdown.PanopticBreakdown.numbers`, with
            ``order`` of :class:`~mmbanet.evaluation.OcclusionMetric` and ``thresholds`` of
            :meth:`mmbanet.apis.fusion_sweep.FusionSweep.numbers`, each or None; None for what is no
            number.
        worst: Images.
        best: Images.
    """
    sections = [
        ('classes', 'Classes', _classes(numbers['classes'])),
        ('size', 'Size and occlusion', _groups(numbers)),
        ('confusion', 'Confusion', _confusion(**numbers['confusion'])),
        ('order', 'Who is in front', _order(numbers['order'])),
        ('scores', 'Scores', _calibration(numbers['calibration'])),
        ('thresholds', 'Thresholds', _thresholds(numbers['thresholds'])),
        ('images', 'Images', _examples(worst, best)),
    ]
    sections = [(place, name, content) for place, name, content in sections if content]
    links = ''.join(f'<a href="#{place}">{name}</a>' for place, name, _ in sections)
    body = [
        *(f'<p>{escape(fact)}</p>' for fact in facts),
        f'<nav aria-label="sections">{links}</nav>',
        _table(
            ('', *MEANS),
            [
                [name, *_values(q, (*QUALITIES, 'classes'))]
                for name, q in numbers['quality'].items()
            ],
        ),
        *(
            f'<section id="{place}"><h2>{name}</h2>{content}</section>'
            for place, name, content in sections
        ),
    ]
    parts = dict(TITLE=escape(title), BODY='\n'.join(body))
    template = files(__package__).joinpath('report.html').read_text('utf-8')
    page = PLACE.sub(lambda place: parts[place[1]], template)
    # Names of files that are not in UTF-8 have letters that it has no code for.
    return page.encode('utf-8', 'replace').decode('utf-8')


def _classes(classes: Sequence[dict]) -> str:
    rows = [
        [c['name'], 'thing' if c['is_thing'] else 'stuff', *_values(c, (*QUALITIES, *COUNTS))]
        for c in classes
    ]
    return (
        "<p>In percent, by panopticapi's matching: a segment is found (TP) where the IoU with one "
        'of its class is above 0.5; SQ is the mean IoU of what is found, RQ the F1 score. A class '
        'that is neither annotated nor predicted has zeros and does not count in the means.</p>'
        + _table(('class', 'kind', *QUALITIES, *COUNTS), rows, sortable=True)
    )


def _groups(numbers: dict) -> str:
    columns = (*QUALITIES, *COUNTS, 'classes')
    parts = []
    for key, title, what in (
        ('size', 'By size', 'Areas below 32², below 96² and of at least 96² pixels, as in COCO.'),
        (
            'overlap',
            'By overlap of boxes',
            "Of things: how much of a thing's box the box of one other thing covers at most.",
        ),
    ):
        rows = [[group['name'], *_values(group, columns)] for group in numbers[key]]
        parts.append(f'<h3>{title}</h3><p>{what}</p>{_table(("", *columns), rows)}')
    parts.append(
        '<p>Matches and misses count where the true segment belongs, false segments where they '
        'belong themselves.</p>'
    )
    if numbers['hidden']:
        rows = [[h['name'], *_values(h, ('segments', 'found', 'SQ'))] for h in numbers['hidden']]
        parts.append(
            '<h3>By the share that is hidden</h3><p>Of true things, of whose full masks the data '
            'set tells. It is not known of false segments, so this is the share that is found, '
            f'not PQ.</p>{_table(("", "segments", "found, %", "SQ"), rows)}'
        )
    return ''.join(parts)


def _confusion(names: Sequence[str], segments: Sequence[Sequence[int]]) -> str:
    table = np.array(segments)
    wrong = table - np.diag(table.diagonal())
    classes = len(names) - 2
    if not table.any():
        return ''
    order = np.argsort(-wrong[:classes, :classes], axis=None, kind='stable')
    pairs = [divmod(int(k), classes) for k in order[:MOST_CONFUSIONS]]
    rows = [[names[i], names[j], int(wrong[i, j])] for i, j in pairs if wrong[i, j]]
    errors = wrong[:classes].sum(axis=1) + wrong[:, :classes].sum(axis=0)
    shown = np.sort(np.argsort(-errors, kind='stable')[:MOST_CLASSES])
    shown = [i for i in shown.tolist() if table[i].any() or table[:, i].any()]
    places = [*shown, classes, classes + 1]
    part = table[np.ix_(places, places)]
    shade = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    chosen = [names[i] for i in places]
    limit = ''
    if classes > MOST_CLASSES:
        limit = f' Shown are the {len(shown)} classes with most errors; all are in the JSON.'
    chart = heat_map(
        chosen,
        chosen,
        [[count or None for count in row] for row in part.tolist()],
        shade.tolist(),
        str,
        'Segments by true class (rows) and predicted class (columns)',
    )
    listed = (
        _table(('true', 'predicted', 'segments'), rows, sortable=True)
        if rows
        else '<p>No segment has the wrong class.</p>'
    )
    return (
        '<p>Segments by true class (rows) and predicted class (columns), shaded by their share of '
        'the row. A true segment is found as another class where their IoU is above 0.5; else it '
        'is void where most of it is predicted as void, and otherwise has no match: split, merged '
        'or badly outlined. A predicted segment without a match is false; one that lies mostly in '
        f'void or in a crowd is not held to be false.{limit}</p>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="confusion">{chart}</div>'
        f'<h3>Most frequent wrong classes</h3>{listed}'
    )


def _order(order: dict | None) -> str:
    if order is None:
        return ''
    rows = []
    for suffix, name in (
        ('', 'truly occluded pairs'),
        *((f'_{kind}', f'of these {name}') for kind, name in KINDS.items()),
        ('_any_overlap', 'pairs that overlap at all'),
    ):
        rows.append([name, order[f'accuracy{suffix}'], order[f'pairs{suffix}']])
    rows.append(['truly occluded pairs that were judged (recall)', order['recall'], None])
    return (
        '<p>Pairs of detected things that overlap as the annotated ones do, and the share of which '
        'the same one is in front (mmbanet.OcclusionMetric).</p>'
        + _table(('', 'right, %', 'pairs'), rows)
    )


def _calibration(calibration: dict) -> str:
    if not calibration['segments']:
        return ''
    return (
        f'<p>Expected calibration error (ECE): {calibration["ECE"]:.2f} over '
        f"{calibration['segments']} predicted things. A thing is right where PQ's matching finds "
        'its true segment. Below the diagonal, scores promise too much. Only what passed the '
        'score threshold is there to be judged.</p>'
        + reliability_diagram(calibration['bins'], 'Share of things that are right, by score')
    )


def _thresholds(thresholds: dict | None) -> str:
    if thresholds is None:
        return ''
    score, overlap, table = (thresholds[key] for key in ('score', 'overlap', 'PQ'))
    known = [pq for row in table for pq in row if pq is not None]
    if not known:
        return ''
    low, span = min(known), max(max(known) - min(known), 1e-9)
    shade = [[0 if pq is None else (pq - low) / span for pq in row] for row in table]
    own = score['values'].index(score['own']), overlap['values'].index(overlap['own'])
    best = max(
        (pq, -i, -j) for i, row in enumerate(table) for j, pq in enumerate(row) if pq is not None
    )
    names = [f'{score["name"]} {value:g}' for value in score['values']]
    columns = ['PQ']
    if overlap['name'] is not None:
        columns = [f'{overlap["name"]} {value:g}' for value in overlap['values']]
    where = ' and '.join((names[-best[1]], *([columns[-best[2]]] if overlap['name'] else [])))
    return (
        '<p>PQ of the same detections and logits, fused with other thresholds; the frame is around '
        "the config's own. Logits that depend on the threshold (I2S) stay those of the config's. "
        f'Best: {best[0]:.2f} with {escape(where)}. A threshold that was chosen on these images '
        'flatters the model on them.</p>'
        f'<div class="scroll" tabindex="0" role="group" aria-label="thresholds">'
        f'{heat_map(names, columns, table, shade, "{:.1f}".format, "PQ by thresholds", own)}</div>'
    )


def _examples(worst: Sequence[Example], best: Sequence[Example]) -> str:
    parts = [
        '<p>PQ of the image alone. Contours are <span class="missed">red</span> where a segment is '
        'missed or false, <span class="confused">orange</span> where its class is wrong.</p>'
    ]
    for title, examples in (('Worst', worst), ('Best', best)):
        figures = ''.join(
            f'<figure><figcaption>{escape(e.name)}: PQ {100 * e.pq:.1f}</figcaption><div>'
            + ''.join(
                f'<img src="{url}" alt="{escape(f"{what} of {e.name}")}" title="{escape(what)}">'
                for what, url in e.pictures
            )
            + '</div></figure>'
            for e in examples
        )
        parts.append(f'<h3>{title}</h3>{figures}' if figures else '')
    return ''.join(parts) if worst or best else ''


def _table(columns: Sequence[str], rows: Iterable[Sequence], sortable: bool = False) -> str:
    """Of texts and numbers; None is a dash."""
    rows = [list(row) for row in rows]
    heads = []
    for j, column in enumerate(columns):
        if not sortable:
            heads.append(f'<th scope="col">{escape(column)}</th>')
            continue
        first = 'ascending' if any(isinstance(row[j], str) for row in rows) else 'descending'
        button = f'<button type="button">{escape(column)}</button>'
        heads.append(f'<th scope="col" data-first="{first}">{button}</th>')
    lines = [''.join(map(_cell, row)) for row in rows]
    body = ''.join(f'<tr>{line}</tr>' for line in lines)
    return (
        '<div class="scroll" tabindex="0" role="group" aria-label="table"><table><thead><tr>'
        f'{"".join(heads)}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(value: str | float | int | None) -> str:
    if value is None:
        return '<td data-value="">-</td>'
    if isinstance(value, str):
        return f'<td class="text">{escape(value)}</td>'
    shown = f'{value:.2f}' if isinstance(value, float) else f'{value}'
    return f'<td data-value="{value!r}">{shown}</td>'


def _values(facts: dict, keys: Sequence[str]) -> list:
    return [facts[key] for key in keys]
