"""A row of the table: what is tried how often, and how often all went well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple


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
        run: Tries that many cases in an empty folder; fewer are the short form, of tests.
        protections: What keeps the promise, by name, and how it is taken out: a function of a
            module, which gives a context without it. Child processes enter it as well.
    """

    name: str
    goal: str
    cases: int
    run: Callable[[int, Path], Outcome]
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


def spread(items: list, number: int) -> list:
    """That many of the items, evenly spread; all of them if there are not more."""
    number = min(number, len(items))
    return [items[i * len(items) // number] for i in range(number)]
