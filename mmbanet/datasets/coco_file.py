"""What COCO's annotation files have in common: images and categories, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .annotation_files import Notices, read_json

MAX_SIDE = 2**20  # pixels, what OpenCV reads at most
LARGEST = 2**63


class CocoFile:
    """An annotation file of COCO's, without its annotations.

    Attributes:
        ann_file: Path or URL of the JSON file.
        categories: In the file's order.
        images: Entries of ``images`` by id, in the file's order.
        notices: What has been said about this file.
    """

    def _read(
        self,
        ann_file: str,
        kind: str,
        backend_args: dict | None = None,
        may_be_unannotated: bool = False,
        has_categories: bool = True,
        notices: Notices | None = None,
        object_hook: Callable[[dict], dict] | None = None,
    ) -> list:
        """Reads images and categories; returns the annotations, unchecked.

        Args:
            ann_file: Path or URL of the JSON file.
            kind: Of the annotations, for messages.
            backend_args: Of MMEngine's file backends.
            may_be_unannotated: Whether the file may have no ``annotations`` at all.
            has_categories: Whether the format knows ``categories``.
            notices: Gets to know what is found; by default, errors are raised.
            object_hook: Of :func:`.read_json`.
        """
        self.ann_file = ann_file
        self.notices = notices or Notices()
        content = read_json(ann_file, backend_args=backend_args, object_hook=object_hook)
        if may_be_unannotated:
            content.setdefault('annotations', [])
        keys = ('categories', 'images', 'annotations')
        for key in keys if has_categories else keys[1:]:
            if not isinstance(content.get(key), list):
                raise ValueError(
                    f'{ann_file}: no COCO {kind} annotations: "{key}" must be a list, got '
                    f'{show(content, key)}'
                )
        self.categories = self._read_categories(content['categories']) if has_categories else []
        self.images = self._read_images(content['images'])
        return content['annotations']

    def where(self, image_id: int | str, segment_id: int | None = None) -> str:
        """The place of an error: file, image and segment."""
        segment = '' if segment_id is None else f', segment {segment_id}'
        return f'{self.ann_file}: {name_image(image_id, self.images[image_id])}{segment}'

    def _read_categories(self, categories: list) -> list[dict]:
        check(categories, f'{self.ann_file}: "categories" is empty')
        ids, names, found = set(), set(), []
        for index, category in enumerate(categories):
            with self.notices.apart('category'):
                self._check_category(category, index, ids, names)
                found.append(category)
        return found

    def _check_category(self, category: Any, index: int, ids: set[int], names: set[str]) -> None:
        """Checks one and keeps its id and name."""
        place = f'{self.ann_file}: category {index}'
        check(isinstance(category, dict), f'{place}: expected an object, got {category!r:.60}')
        check(is_integer(category.get('id')), wrong(place, category, 'id', 'an integer'))
        name = category.get('name')
        check(name and isinstance(name, str), wrong(place, category, 'name', 'a text'))
        place = f'{self.ann_file}: category {category["id"]} ("{name}")'
        check(category['id'] not in ids, f'{place}: two categories have this id')
        check(name not in names, f'{place}: two categories have this name')
        ids.add(category['id'])
        names.add(name)

    def _read_images(self, images: list) -> dict[int | str, dict]:
        check(images, f'{self.ann_file}: "images" is empty')
        found = {}
        for index, image in enumerate(images):
            with self.notices.apart('image'):
                self._check_image(image, index)
                image_id = image['id']
                if image_id in found:
                    name = name_image(image_id, image)
                    raise ValueError(f'{self.ann_file}: {name}: two images have this id')
                found[image_id] = image
        return found

    def _check_image(self, image: Any, index: int) -> None:
        place = f'{self.ann_file}: entry {index} of "images"'
        if not isinstance(image, dict):
            raise ValueError(f'{place}: expected an object, got {image!r:.60}')
        image_id = image.get('id')
        if not is_id(image_id):
            raise ValueError(wrong(place, image, 'id', 'an integer or a text'))
        check_file_name(f'{self.ann_file}: image {image_id}', image)
        for key in ('height', 'width'):
            if not (is_integer(image.get(key)) and 0 < image[key] <= MAX_SIDE):
                place = f'{self.ann_file}: {name_image(image_id, image)}'
                raise ValueError(wrong(place, image, key, f'an integer from 1 to {MAX_SIDE}'))


def name_image(image_id: int | str, image: dict) -> str:
    """How messages name an image."""
    return f'image {image_id} ({image["file_name"]})'


def check_file_name(place: str, entry: dict) -> None:
    """Raises a ValueError unless an entry names a file."""
    name = entry.get('file_name')
    if not (name and isinstance(name, str) and '\0' not in name):
        raise ValueError(wrong(place, entry, 'file_name', "a file's name"))


def is_integer(value: Any) -> bool:
    """True of JSON's integers as far as NumPy knows them, not of its true and false."""
    return type(value) is int and abs(value) < LARGEST


def is_number(value: Any) -> bool:
    """True of JSON's numbers, also of NaN and Infinity."""
    return type(value) is float or is_integer(value)


def is_id(value: Any) -> bool:
    """True of what an image may have for an id; those of Cityscapes are texts."""
    return is_integer(value) or isinstance(value, str)


def check(condition: Any, message: str) -> None:
    """Raises a ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def wrong(place: str, entry: dict, key: str, expected: str) -> str:
    """The message that an entry has something else than expected."""
    return f'{place}: "{key}" must be {expected}, got {show(entry, key)}'


def show(entry: dict, key: str) -> str:
    """The value of an entry for a message, which may be missing."""
    return f'{entry[key]!r:.60}' if key in entry else 'nothing'
