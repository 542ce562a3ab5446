"""What the values of semantic label images mean: a small JSON or YAML file.

    {
      "things": {"car": 8, "person": [9, 10]},
      "stuff": {"sky": 0, "road": "#804080"},
      "void": [11]
    }

A value is a grey level or palette index of the label image, or its colour as "#rrggbb"; a class may
have several. The order of the classes is that of the labels: things first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from .panoptic_files import class_color


class ClassMap(NamedTuple):
    """The classes of a set of label images.

    Attributes:
        things: From the name of a thing class to its values in the label images. The value
            of a colour is 65536 R + 256 G + B.
        stuff: Likewise of the stuff classes.
        void: Values of unlabelled pixels.
    """

    things: dict[str, tuple[int, ...]]
    stuff: dict[str, tuple[int, ...]]
    void: tuple[int, ...] = ()

    @classmethod
    def from_file(cls, path: str | Path) -> ClassMap:
        """Reads a JSON or YAML file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Its content is not as above.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f'class map not found: {path.resolve()}')
        if path.suffix not in ('.json', '.yaml', '.yml'):
            raise ValueError(f'{path}: a class map is a .json, .yaml or .yml file')
        try:  # YAML without tags of Python's objects, which could run anything
            content = (json.loads if path.suffix == '.json' else yaml.safe_load)(path.read_bytes())
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path}: not readable as {path.suffix[1:]}: {reason}') from error
        if not isinstance(content, dict):
            raise ValueError(
                f'{path}: expected "things", "stuff" and "void", got a {type(content).__name__}'
            )
        unknown = sorted(map(str, content.keys() - {'things', 'stuff', 'void'}))
        if unknown:
            raise ValueError(f'{path}: expected "things", "stuff" and "void", got {unknown}')
        things, stuff = (
            _read_classes(content.get(kind), f'{path}: {kind}') for kind in ('things', 'stuff')
        )
        void = _read_values(content.get('void', []), f'{path}: void')
        _check_unique([*things, *stuff], f'{path}: class names')
        _check_unique([*sum([*things.values(), *stuff.values()], ()), *void], f'{path}: values')
        return cls(things, stuff, void)

    @property
    def categories(self) -> list[dict]:
        """The ``categories`` of an annotation file, things first."""
        names = [*self.things, *self.stuff]
        return [
            {
                'id': number + 1,
                'name': name,
                'supercategory': 'thing' if name in self.things else 'stuff',
                'isthing': int(name in self.things),
                'color': class_color(number),
            }
            for number, name in enumerate(names)
        ]

    def labels(self, values: np.ndarray, source: str | Path) -> np.ndarray:
        """Translates a label image.

        Args:
            values: (H, W) int.
            source: Its file, for the message.

        Returns:
            (H, W) int64, positions in ``categories``; -1 is void.

        Raises:
            ValueError: A value is that of no class.
        """
        found = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
        label_of = dict.fromkeys(self.void, -1)
        for label, mine in enumerate([*self.things.values(), *self.stuff.values()]):
            label_of |= dict.fromkeys(mine, label)
        unknown = [value for value in found.tolist() if value not in label_of]
        if unknown:
            shown = ', '.join(f'{v}' if v < 65536 else f'{v} (#{v:06x})' for v in unknown[:5])
            raise ValueError(
                f'{source}: the class map says nothing of {len(unknown)} of its values: {shown}; '
                'add them to a class or to "void"'
            )
        lookup = np.full(found[-1] + 1, -1, dtype=np.int64)
        lookup[found] = [label_of[value] for value in found.tolist()]
        return lookup[values]


def _read_classes(content: object, where: str) -> dict[str, tuple[int, ...]]:
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{where} must map at least one class name to its values, got {content!r}')
    classes = {}
    for name, values in content.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f'{where}: a class name is a string, got {name!r}')
        classes[name] = _read_values(values, f'{where}: {name}')
        if not classes[name]:
            raise ValueError(f'{where}: {name} has no values')
    return classes


def _read_values(content: object, where: str) -> tuple[int, ...]:
    values = content if isinstance(content, list) else [content]
    return tuple(_read_value(value, where) for value in values)


def _read_value(value: object, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and len(value) == 7 and value[0] == '#':
        try:
            return int(value[1:], 16)
        except ValueError:
            pass
    raise ValueError(f'{where}: a value is a number of at least 0 or "#rrggbb", got {value!r}')


def _check_unique(items: Iterable, where: str) -> None:
    items = list(items)
    twice = next((item for item in items if items.count(item) > 1), None)
    if twice is not None:
        raise ValueError(f'{where} must be unique, got {twice!r} twice')
