"""COCO panoptic annotations of instance annotations and semantic label images of the same images.

As COCO's own were made of its things and COCO-Stuff: things lie on stuff. Where several instances
claim a pixel, it is of one whose class the label image has there, among these of the smallest; a
crowd lies below all others.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from mmbanet.structures import class_color

from .class_map import ClassMap
from .coco_file import name_image
from .instance_annotations import InstanceAnnotations
from .panoptic_writer import Annotated, DataSet, Layer, Part, flatten
from .segmentation import encode_segmentation
from .semantic_conversion import read_label_image


def instance_data_set(
    ann_file: str | Path,
    images: str | Path,
    labels: str | Path,
    class_map: ClassMap,
    *,
    split: str,
) -> DataSet:
    """COCO's instance annotations with label images. Categories of things keep their ids.

    Args:
        ann_file: COCO's instance annotations.
        images: Folder of the images.
        labels: Folder of the label images, PNGs with the images' stems.
        class_map: What the values of the label images mean. Its things, which it may leave out or
            call void, must be categories of ``ann_file``; their pixels that no instance has are
            void.
        split: Name of what is written.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not as above.
    """
    file = InstanceAnnotations(str(ann_file))
    ids = {category['name']: category['id'] for category in file.categories}
    unknown = [name for name in class_map.things if name not in ids]
    if unknown:
        raise ValueError(f'{ann_file}: {unknown} of the class map are no categories of it')
    twice = [name for name in class_map.stuff if name in ids]
    if twice:
        raise ValueError(f'{ann_file}: {twice} are stuff in the class map, but instances here')
    things = [
        dict(category, isthing=1, color=class_color(n))
        for n, category in enumerate(file.categories)
    ]
    stuff = [
        dict(
            id=max(ids.values()) + 1 + n,
            name=name,
            supercategory='stuff',
            isthing=0,
            color=class_color(len(things) + n),
        )
        for n, name in enumerate(class_map.stuff)
    ]
    # By the label of the class map, whose things may be fewer and in another order.
    category_of = [next(c for c in things if c['name'] == n) for n in class_map.things] + stuff
    convert = partial(_convert, file, Path(images), Path(labels), class_map, category_of, things)
    names = [image['file_name'] for image in file.images.values()]
    part = Part(Path(images), list(file.images), convert, names)
    return DataSet({split: part}, things + stuff, 'instances and semantic labels')


def _convert(
    file: InstanceAnnotations,
    images: Path,
    labels: Path,
    class_map: ClassMap,
    category_of: list[dict],
    things: list[dict],
    image_id: int | str,
) -> Annotated:
    entry = file.images[image_id]
    name, size = entry['file_name'], (entry['height'], entry['width'])
    path = labels / Path(name).with_suffix('.png')
    if not path.is_file():
        raise FileNotFoundError(
            f'label image of {name_image(image_id, entry)} not found: {path.absolute()}'
        )
    semantics = class_map.labels(read_label_image(images / name, path), path)
    if semantics.shape != size:
        raise ValueError(
            f'{file.where(image_id)}: height and width are {size} here, {semantics.shape} in {path}'
        )
    by_id = {category['id']: category for category in things}
    instances = [
        Layer(
            by_id[instance.category_id],
            coco_mask.decode(encode_segmentation(instance.segmentation, *size)).astype(bool),
            instance.is_crowd,
        )
        for instance in file.instances[image_id]
        if instance.box
    ]
    instances = [layer for layer in instances if layer.mask.any()]
    from_behind = sorted(instances, key=lambda layer: (not layer.is_crowd, -int(layer.mask.sum())))
    stuff = [
        Layer(category, semantics == label)
        for label, category in enumerate(category_of)
        if not category['isthing']
    ]
    # The category that the label image has at each pixel; the last one is for void.
    at = np.array([category['id'] for category in category_of] + [-1])[semantics]
    agreed = np.zeros(size, dtype=bool)
    for layer in instances:
        agreed |= layer.mask & (at == layer.category['id'])
    visible = [
        layer._replace(mask=layer.mask & (~agreed | (at == layer.category['id'])))
        for layer in from_behind
    ]
    return Annotated(name, *flatten(size, stuff + visible), instances)
