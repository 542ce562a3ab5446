"""COCO panoptic annotations of Cityscapes' official files.

As ``cityscapesscripts/preparation/createPanopticImgs.py --use-train-id`` makes them: the 19 classes
of the evaluation under their official names and train ids, segment ids as in
``*_gtFine_instanceIds.png``. There a value below 1000 is a label's id: stuff, or a group of things
that were not told apart (a crowd); another one is 1000 times the label's id plus the number of the
instance. Labels and colours: ``cityscapesscripts/helpers/labels.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .panoptic_files import segment_info
from .panoptic_writer import Annotated, DataSet, Part
from .semantic_conversion import read_label_image

IMAGE_END, IDS_END = '_leftImg8bit.png', '_gtFine_instanceIds.png'


class Label(NamedTuple):
    """One of the 19 labels that are evaluated; its train id is its position in ``LABELS``."""

    name: str
    id: int
    supercategory: str
    is_thing: bool
    color: tuple[int, int, int]


LABELS = (
    Label('road', 7, 'flat', False, (128, 64, 128)),
    Label('sidewalk', 8, 'flat', False, (244, 35, 232)),
    Label('building', 11, 'construction', False, (70, 70, 70)),
    Label('wall', 12, 'construction', False, (102, 102, 156)),
    Label('fence', 13, 'construction', False, (190, 153, 153)),
    Label('pole', 17, 'object', False, (153, 153, 153)),
    Label('traffic light', 19, 'object', False, (250, 170, 30)),
    Label('traffic sign', 20, 'object', False, (220, 220, 0)),
    Label('vegetation', 21, 'nature', False, (107, 142, 35)),
    Label('terrain', 22, 'nature', False, (152, 251, 152)),
    Label('sky', 23, 'sky', False, (70, 130, 180)),
    Label('person', 24, 'human', True, (220, 20, 60)),
    Label('rider', 25, 'human', True, (255, 0, 0)),
    Label('car', 26, 'vehicle', True, (0, 0, 142)),
    Label('truck', 27, 'vehicle', True, (0, 0, 70)),
    Label('bus', 28, 'vehicle', True, (0, 60, 100)),
    Label('train', 31, 'vehicle', True, (0, 80, 100)),
    Label('motorcycle', 32, 'vehicle', True, (0, 0, 230)),
    Label('bicycle', 33, 'vehicle', True, (119, 11, 32)),
)
LAST_LABEL_ID = 33
# Things first, as mmdet takes labels in the order of the file.
CATEGORIES = [
    dict(
        id=train_id,
        name=label.name,
        supercategory=label.supercategory,
        isthing=int(label.is_thing),
        color=list(label.color),
    )
    for train_id, label in sorted(enumerate(LABELS), key=lambda item: not item[1].is_thing)
]


def cityscapes_data_set(
    root: str | Path,
    *,
    splits: Iterable[str] = ('train', 'val'),
) -> DataSet:
    """Cityscapes, whose images are named ``CITY/..._leftImg8bit.png``.

    Args:
        root: Folder with ``leftImg8bit`` and ``gtFine``, as they are unpacked.
        splits: ``train``, ``val``; ``test`` has no annotations.

    Raises:
        FileNotFoundError: A folder or a file is missing.
        ValueError: A file is not as above.
    """
    root, parts = Path(root), {}
    for split in splits:
        images, truth = root / 'leftImg8bit' / split, root / 'gtFine' / split
        for folder, package in (
            (images, 'leftImg8bit_trainvaltest.zip'),
            (truth, 'gtFine_trainvaltest.zip'),
        ):
            if not folder.is_dir():
                raise FileNotFoundError(
                    f'no folder {folder.absolute()}; unpack {package} of cityscapes-dataset.com '
                    f'in {root.absolute()}'
                )
        files = sorted(images.glob(f'*/*{IMAGE_END}'))
        parts[split] = Part(images, files, partial(_convert, images=images, truth=truth))
    return DataSet(parts, CATEGORIES, 'Cityscapes, fine annotations')


def _convert(image: Path, images: Path, truth: Path) -> Annotated:
    path = truth / image.parent.name / (image.name.removesuffix(IMAGE_END) + IDS_END)
    if not path.is_file():
        raise FileNotFoundError(f'{path.absolute()} not found, the annotation of {image}')
    values = read_label_image(image, path)
    category_of = {LABELS[category['id']].id: category for category in CATEGORIES}
    ids, segments = np.zeros_like(values), []
    for value in np.unique(values).tolist():
        label_id = value // 1000 if value >= 1000 else value
        if label_id > LAST_LABEL_ID:
            raise ValueError(
                f'{path}: {value} is no id of Cityscapes; expected the *{IDS_END} of its gtFine'
            )
        category = category_of.get(label_id)
        if category is None:
            continue
        mask = values == value
        ids[mask] = value
        is_crowd = bool(category['isthing']) and value < 1000
        info = segment_info(value, category['id'], mask)
        segments.append(dict(info, iscrowd=int(is_crowd)))
    return Annotated(str(image.relative_to(images)), ids, segments)
