"""COCO amodal (COCOA): regions of an image in depth order, with their hidden parts.

Zhu et al., "Semantic Amodal Segmentation", CVPR 2017. An entry of ``annotations`` is what one
annotator drew of one image: ``image_id`` and ``regions``, each with

* ``segmentation``: the whole region, one polygon [x1, y1, x2, y2, ...] (or COCO's polygons or RLE),
* ``order``: its depth, 1 in front; an integer, each once,
* ``visible_mask`` and ``invisible_mask``: RLE, of regions that are hidden in part,
* ``isStuff``: 1 for stuff, ``name``: free text.

``depth_constraint``, where there is one, is a text such as "1-2,1-3": the order of every pair of
regions of which one covers the other, front first.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .coco_file import CocoFile, check, is_id, is_integer, show, wrong
from .ordered_things import OrderedThings, order_by_rank, owner_of
from .rle import check_rle, decode_rle
from .segmentation import check_segmentation, encode_segmentation


class CocoaAnnotations(CocoFile):
    """The things of COCO amodal's annotations in order; its stuff has none here.

    Args:
        ann_file: Path or URL of the JSON file.
        backend_args: Of MMEngine's file backends.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Anything in it is not as it must be.
    """

    def __init__(self, ann_file: str, backend_args: dict | None = None) -> None:
        annotations = self._read(ann_file, 'amodal', backend_args, has_categories=False)
        self._entries = []
        self._names: dict[str, int] = {}
        for index, annotation in enumerate(annotations):
            place = f'{ann_file}: entry {index} of "annotations"'
            check(
                isinstance(annotation, dict), f'{place}: expected an object, got {annotation!r:.60}'
            )
            image_id = annotation.get('image_id')
            check(
                is_id(image_id) and image_id in self.images,
                f'{place}: its image_id {show(annotation, "image_id")} is not in "images"; list '
                'the image, or correct image_id',
            )
            self._check(image_id, annotation)
            self._entries.append((image_id, annotation))

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> OrderedThings:
        image_id, annotation = self._entries[index]
        image = self.images[image_id]
        size = image['height'], image['width']
        things = [r for r in annotation['regions'] if not r.get('isStuff', 0)]
        things.sort(key=lambda region: region['order'])
        masks, visible = (np.zeros((len(things), *size), dtype=bool) for _ in range(2))
        for k, region in enumerate(things):
            masks[k] = coco_mask.decode(encode_segmentation(_segmentation(region), *size))
            if 'visible_mask' in region:
                visible[k] = decode_rle(region['visible_mask'], size)
            else:
                visible[k] = masks[k]
                if 'invisible_mask' in region:
                    visible[k] &= ~decode_rle(region['invisible_mask'], size)
        depths = np.array([region['order'] for region in things], dtype=np.int64)
        order = order_by_rank(masks, depths)
        if 'depth_constraint' in annotation:
            place = {depth: k for k, depth in enumerate(depths.tolist())}
            order[:] = 0
            for pair in _constraints(annotation['depth_constraint']):
                if all(depth in place for depth in pair):  # the others are of stuff
                    front, behind = (place[depth] for depth in pair)
                    order[front, behind], order[behind, front] = 1, -1
        names = [self._names.setdefault(_name(region), len(self._names)) for region in things]
        categories = np.array(names, dtype=np.int64)
        return OrderedThings(image['file_name'], categories, masks, owner_of(visible), order)

    def _check(self, image_id: int | str, annotation: dict) -> None:
        """Raises a ValueError unless the regions of an entry are as described above."""
        where = self.where(image_id)
        regions = annotation.get('regions')
        check(
            isinstance(regions, list),
            f'{where}: no COCO amodal annotation: "regions" must be a list, got '
            f'{show(annotation, "regions")}',
        )
        image, depths = self.images[image_id], set()
        for index, region in enumerate(regions):
            place = f'{where}, region {index}'
            check(isinstance(region, dict), f'{place}: expected an object, got {region!r:.60}')
            depth = region.get('order')
            expected = 'an integer, its depth from 1 in front'
            check(is_integer(depth) and depth > 0, wrong(place, region, 'order', expected))
            check(depth not in depths, f'{place}: two regions have the order {depth}')
            depths.add(depth)
            check(region.get('isStuff', 0) in (0, 1), wrong(place, region, 'isStuff', '0 or 1'))
            try:
                check('segmentation' in region, 'it has no "segmentation"')
                check_segmentation(_segmentation(region), image['height'], image['width'])
                for key in ('visible_mask', 'invisible_mask'):
                    if key in region:
                        check_rle(region[key], (image['height'], image['width']))
            except ValueError as error:
                raise ValueError(f'{place}: {error}; correct the region, or take it out') from None
        try:
            pairs = _constraints(annotation.get('depth_constraint', ''))
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from None
        for pair in pairs:
            text = '-'.join(map(str, pair))
            check(
                set(pair) <= depths,
                f'{where}: "depth_constraint" has {text}, but the orders of its regions are '
                f'{sorted(depths)}',
            )
            check(
                pair[::-1] not in pairs,
                f'{where}: "depth_constraint" has {text} and the opposite: one must be wrong',
            )


def _segmentation(region: dict) -> Any:
    """COCO's form of a region's one polygon; what is in that form already stays."""
    found = region['segmentation']
    is_polygon = isinstance(found, list) and found and not any(isinstance(v, list) for v in found)
    return [found] if is_polygon else found


def _name(region: dict) -> str:
    """The free text, as far as two annotators would agree on it."""
    return str(region.get('name', '')).strip().lower()


def _constraints(text: Any) -> list[tuple[int, int]]:
    """The pairs of orders in a text such as "1-2,1-3"."""
    if not isinstance(text, str) or not re.fullmatch(r'(\d+-\d+(,\d+-\d+)*)?', text):
        raise ValueError(
            '"depth_constraint" must be a text of pairs of orders, front first, such as '
            f'"1-2,1-3", got {text!r:.60}'
        )
    return [tuple(map(int, pair.split('-'))) for pair in text.split(',') if pair]
