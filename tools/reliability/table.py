"""The tables: a line of them on the terminal, and all of them in docs/reliability.md."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

from .row import Outcome, Row

END = '<!-- end of the table -->'
NOT_MEASURED = 'not measured yet'


def promises(rows: Mapping[str, Row]) -> dict[str, str]:
    """What is promised, by the name of a row."""
    return {f'`{name}`': row.goal for name, row in rows.items()}


def takeouts(rows: Mapping[str, Row]) -> dict[str, str]:
    """What is so when a protection of a row is taken out, by the names of both."""
    return {
        without(row, protection): inspect.getdoc(function).splitlines()[0].removesuffix('.')
        for row in rows.values()
        for protection, function in row.protections.items()
    }


def without(row: Row, protection: str) -> str:
    """The name of a row that is run without a protection."""
    return f'`{row.name}` without `{protection}`'


#: A table's first line in the page: its columns, and what it has in them.
TABLES = {
    '<!-- table of make reliability -->': ('row', 'goal', promises),
    '<!-- table of make reliability --without each -->': ('row', 'what is so then', takeouts),
}


def as_entry(outcome: Outcome, seconds: float) -> dict:
    """What is kept of a row that was run."""
    return dict(**outcome._asdict(), seconds=round(seconds))


def figure(entry: dict) -> str:
    """Such as ``50 of 50``."""
    note = f' ({entry["note"]})' if entry['note'] else ''
    return f'{entry["good"]} of {entry["cases"]}{note}'


def line_of(name: str, entry: dict) -> str:
    """A row on the terminal."""
    return f'{name.replace("`", ""):<24} {figure(entry):<32}{entry["seconds"]:>5} s'


def insert(path: Path, rows: Mapping[str, Row], entries: Mapping[str, dict]) -> None:
    """Replaces the tables in a page; rows that were not run keep their figures."""
    text = path.read_text()
    for start, (first, second, contents) in TABLES.items():
        head, _, rest = text.partition(start)
        old, _, tail = rest.partition(END)
        figures = _figures(old) | {name: figure(entry) for name, entry in entries.items()}
        lines = [f'| {first} | {second} | figure |', '|---|---|---|']
        lines += [
            f'| {name} | {content} | {figures.get(name, NOT_MEASURED)} |'
            for name, content in contents(rows).items()
        ]
        text = '\n'.join([f'{head}{start}\n', *lines, f'\n{END}{tail}'])
    path.write_text(text)


def _figures(table: str) -> dict[str, str]:
    cells = [line.strip('| ').split(' | ') for line in table.splitlines() if line.startswith('| `')]
    return {row[0]: row[-1] for row in cells}
