"""KINS: instances of KITTI's street images with their hidden parts and their order.

Qi et al., "Amodal Instance Segmentation with KINS Dataset", CVPR 2019. The files of 2020 are COCO's
instance annotations with, in place of ``segmentation`` and ``bbox``,

* ``a_segm``, ``a_bbox``: the whole instance (amodal), ``i_segm``, ``i_bbox``: what is seen of it
  (inmodal); masks are polygons or RLE,
* ``oco_id``: the cluster of instances that cover each other, ``ico_id``: the order in the cluster,
  from front to back. Files derived from it say the order of the whole image, without clusters, as
  ``l_order`` or ``layer_order``.
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from .coco_file import CocoFile, check, is_id, is_integer, show, wrong
from .ordered_things import OrderedThings, order_by_rank, owner_of
from .segmentation import check_segmentation, encode_segmentation

# Of which the first is taken that an instance has.
ORDER_KEYS = ('ico_id', 'l_order', 'layer_order')


class KinsAnnotations(CocoFile):
    """The instances of KINS's annotations in order; crowds are left out.

    Args:
        ann_file: Path or URL of the JSON file.
        backend_args: Of MMEngine's file backends.

    Attributes:
        image_ids: In the file's order, also those without instances.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Anything in it is not as it must be.
    """

    def __init__(self, ann_file: str, backend_args: dict | None = None) -> None:
        annotations = self._read(ann_file, 'KINS', backend_args)
        self.image_ids = list(self.images)
        self._instances = {image_id: [] for image_id in self.images}
        categories = {category['id'] for category in self.categories}
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
            place = f'{self.where(image_id)}, entry {index} of "annotations"'
            self._check(image_id, annotation, place, categories)
            if not annotation.get('iscrowd', 0):
                self._instances[image_id].append(annotation)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> OrderedThings:
        image_id = self.image_ids[index]
        image = self.images[image_id]
        size = image['height'], image['width']
        instances = self._instances[image_id]
        ranks, clusters = (np.zeros(len(instances), dtype=np.int64) for _ in range(2))
        for k, instance in enumerate(instances):
            ranks[k] = instance[_order_key(instance)]
            clusters[k] = instance.get('oco_id', 0)
        masks, visible = (
            np.array(
                [coco_mask.decode(encode_segmentation(i[key], *size)) for i in instances],
                dtype=bool,
            ).reshape(-1, *size)
            for key in ('a_segm', 'i_segm')
        )
        categories = np.array([i['category_id'] for i in instances], dtype=np.int64)
        order = order_by_rank(masks, ranks, clusters)
        return OrderedThings(image['file_name'], categories, masks, owner_of(visible), order)

    def _check(
        self, image_id: int | str, annotation: dict, place: str, categories: set[int]
    ) -> None:
        """Raises a ValueError unless an instance is as described above."""
        category_id = annotation.get('category_id')
        check(
            is_integer(category_id) and category_id in categories,
            f'{place}: category_id {show(annotation, "category_id")} is not in the categories of '
            'the file',
        )
        check(annotation.get('iscrowd', 0) in (0, 1), wrong(place, annotation, 'iscrowd', '0 or 1'))
        key = _order_key(annotation)
        check(
            key is not None,
            f'{place}: no order: it has none of {", ".join(ORDER_KEYS)} (KINS says who is in front '
            'in its files of 2020, such as update_test_2020.json)',
        )
        check(is_integer(annotation[key]), wrong(place, annotation, key, 'an integer'))
        if key == 'ico_id':
            expected = 'an integer, the cluster in which ico_id counts'
            check(
                is_integer(annotation.get('oco_id')), wrong(place, annotation, 'oco_id', expected)
            )
        image = self.images[image_id]
        for key in ('a_segm', 'i_segm'):
            check(key in annotation, f'{place}: it has no "{key}"')
            try:
                check_segmentation(annotation[key], image['height'], image['width'])
            except ValueError as error:
                raise ValueError(
                    f'{place}: "{key}": {error}; correct the instance, or take it out'
                ) from None


def _order_key(annotation: dict) -> str | None:
    return next((key for key in ORDER_KEYS if key in annotation), None)
