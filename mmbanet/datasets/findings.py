"""What is found in annotation files, collected: a loader tells the first thing only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .annotation_files import Notices

#: Of what loaders only say: what makes the figures of an evaluation wrong.
DISAGREEMENTS = {'missing', 'unlisted', 'other area', 'other bbox'}


class Finding(NamedTuple):
    """Something wrong (``is_error``), or worth a look."""

    kind: str
    is_error: bool
    message: str


class Findings(Notices):
    """Collects what readers of annotation files raise and say.

    Attributes:
        found: In the order in which it was found.
    """

    def __init__(self) -> None:
        self.found: list[Finding] = []

    def say(self, kind: str, message: str) -> None:
        """Keeps what a reader would say."""
        self.found.append(Finding(kind, kind in DISAGREEMENTS, message))

    def refuse(self, kind: str, message: str) -> None:
        """Keeps an error."""
        self.found.append(Finding(kind, True, message))

    @contextmanager
    def apart(self, kind: str) -> Iterator[None]:
        """Keeps the error that a reader raises in here."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.refuse(kind, str(error))
