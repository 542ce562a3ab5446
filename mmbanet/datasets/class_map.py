"""What values of semantic label images, or names in an annotation tool, mean: a JSON or YAML file.

    {
      "things": {"car": 8, "person": [9, 10]},
      "stuff": {"sky": 0, "road": "#804080"},
      "void": [11]
    }

A value is a grey level or palette index of the label image, or its colour as "#rrggbb"; a class may
have several. Where annotations have names, values are names, and a list of those that are names of
classes as they are will do: {"things": ["car"], "stuff": ["sky", "road"], "void": ["ego vehicle"]}.
The order of the classes is that of the labels: things first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from mmbanet.structures import class_color


class ClassMap(NamedTuple):
    """The classes of a set of label images, or of annotations with names.

    Attributes:
        things: From the name of a thing class to its values in the label images. The value
            of a colour is 65536 R + 256 G + B. Or to its names in the annotations.
        stuff: Likewise of the stuff classes.
        void: Values of unlabelled pixels.
    """

    things: dict[str, tuple[int | str, ...]]
    stuff: dict[str, tuple[int | str, ...]]
    void: tuple[int | str, ...] = ()

    @classmethod
    def from_file(
        cls, path: str | Path, named: bool = False, needs_things: bool = True
    ) -> ClassMap:
        """Reads a JSON or YAML file.

        Args:
            path: Of the file.
            named: Whether values are names.
            needs_things: Whether it must have things.

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
            _read_classes(content.get(kind), f'{path}: {kind}', named)
            if needs_things or kind in content
            else {}
            for kind in ('things', 'stuff')
        )
        void = _read_values(content.get('void', []), f'{path}: void', named)
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

    @property
    def label_of(self) -> dict[int | str, int]:
        """From each value to the position of its class in ``categories``; -1 is void."""
        label_of = dict.fromkeys(self.void, -1)
        for label, mine in enumerate([*self.things.values(), *self.stuff.values()]):
            label_of |= dict.fromkeys(mine, label)
        return label_of

    def category_of(self, name: str, source: str | Path) -> dict | None:
        """The category of a name in the annotations of ``source``; None for void.

        Raises:
            ValueError: The name is that of no class.
        """
        label = self.label_of.get(name)
        if label is None:
            raise ValueError(
                f'{source}: the class map says nothing of "{name}"; add it to a class or to "void"'
            )
        return None if label < 0 else self.categories[label]

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
        label_of = self.label_of
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


def _read_classes(content: object, where: str, named: bool) -> dict[str, tuple[int | str, ...]]:
    if named and isinstance(content, list) and all(isinstance(name, str) for name in content):
        _check_unique(content, where)
        content = {name: name for name in content}
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{where} must map at least one class name to its values, got {content!r}')
    classes = {}
    for name, values in content.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f'{where}: a class name is a string, got {name!r}')
        classes[name] = _read_values(values, f'{where}: {name}', named)
        if not classes[name]:
            raise ValueError(f'{where}: {name} has no values')
    return classes


def _read_values(content: object, where: str, named: bool) -> tuple[int | str, ...]:
    values = content if isinstance(content, list) else [content]
    return tuple(_read_value(value, where, named) for value in values)


def _read_value(value: object, where: str, named: bool) -> int | str:
    if named:
        if isinstance(value, str) and value:
            return value
        raise ValueError(f'{where}: a value is a name in the annotations, got {value!r}')
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
