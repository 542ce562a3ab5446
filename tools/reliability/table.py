"""The table: a line of it on the terminal, and all of it in docs/reliability.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .row import Outcome, Row

START, END = '<!-- table of make reliability -->', '<!-- end of the table -->'
NOT_MEASURED = 'not measured yet'


def as_entry(row: Row, outcome: Outcome, seconds: float) -> dict:
    """What is kept of a row."""
    return dict(goal=row.goal, **outcome._asdict(), seconds=round(seconds))


def figure(entry: dict) -> str:
    """Such as ``50 of 50``."""
    note = f' ({entry["note"]})' if entry['note'] else ''
    return f'{entry["good"]} of {entry["cases"]}{note}'


def line_of(name: str, entry: dict) -> str:
    """A row on the terminal."""
    return f'{name:<24}{figure(entry):<32}{entry["seconds"]:>5} s'


def table(rows: Mapping[str, Row], figures: Mapping[str, str]) -> str:
    """All rows as Markdown."""
    lines = ['| row | goal | figure |', '|---|---|---|']
    lines += [
        f'| `{name}` | {row.goal} | {figures.get(name, NOT_MEASURED)} |'
        for name, row in rows.items()
    ]
    return '\n'.join(lines)


def insert(path: Path, rows: Mapping[str, Row], entries: Mapping[str, dict]) -> None:
    """Replaces the table in a page; rows that were not run keep their figures."""
    text = path.read_text()
    head, _, rest = text.partition(START)
    old, _, tail = rest.partition(END)
    figures = dict(_figures(old))
    figures |= {name: figure(entry) for name, entry in entries.items()}
    path.write_text(f'{head}{START}\n\n{table(rows, figures)}\n\n{END}{tail}')


def _figures(text: str) -> list[tuple[str, str]]:
    cells = [line.split(' | ') for line in text.splitlines() if line.startswith('| `')]
    return [(row[0].strip('| `'), row[-1].removesuffix(' |')) for row in cells]
