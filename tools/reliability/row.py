"""A row of the table: what is tried how often, and how often all went well."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """How a row went.

    Attributes:
        good: Cases that went as promised.
        cases: All that were tried.
        failures: A line each of the others.
        note: What else was measured, such as a time; may be empty.
    """

    good: int
    cases: int
    failures: list[str]
    note: str = ''


class Row(NamedTuple):
    """What a module of this package has as ``ROW``.

    Attributes:
        name: As ``make reliability ARGS=NAME`` takes it; words with hyphens.
        goal: What is promised of each case; a line of the table in docs/reliability.md.
        cases: Of the full form.
        run: Tries that many cases in an empty folder, or those with a text in their names; fewer
            are the short form, of tests.
        protections: What keeps the promise, by name, and how it is taken out: a function of a
            module, which gives a context without it. Child processes enter it as well.
    """

    name: str
    goal: str
    cases: int
    run: Callable[[int | str, Path], Outcome]
    protections: Mapping[str, Callable[[], AbstractContextManager]] = {}


def count(cases: Iterable[tuple[str, Callable[[], str | None]]]) -> Outcome:
    """Runs named cases, each of which returns what went wrong, or None."""
    good, failures = 0, []
    for name, case in cases:
        try:
            problem = case()
        except Exception as error:
            problem = f'{type(error).__name__}: {error}'
        if problem is None:
            good += 1
        else:
            failures.append(f'{name}: {problem}')
    return Outcome(good, good + len(failures), failures)


def chosen(named: Sequence[tuple[str, Any]], cases: int | str) -> list[tuple[str, Any]]:
    """So many of named cases, evenly spread, or those with a text in their names.

    More than there are is all of them; a text that no name has ends the process with a line.
    """
    if isinstance(cases, int):
        number = min(cases, len(named))
        return [named[i * len(named) // number] for i in range(number)]
    found = [(name, case) for name, case in named if cases in name]
    if not found:
        sys.exit(f'no case has {cases!r} in its name; there are: {"; ".join(n for n, _ in named)}')
    return found


def number_of(cases: int | str) -> int:
    """Of a row whose cases are random moments, without names."""
    if isinstance(cases, str):
        sys.exit(f'the cases of this row have no names such as {cases!r}: give their number')
    return cases
