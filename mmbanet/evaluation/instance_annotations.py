"""Annotated instances for AP: the things of panoptic annotations, or COCO's instances."""

from __future__ import annotations

import contextlib
import io
import os.path as osp

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from .panoptic_annotations import PanopticAnnotations


class ThingAnnotations:
    """The things of panoptic annotations as instances.

    Args:
        ann_file (str): COCO's panoptic annotations.
        seg_prefix (str): Folder of their PNGs.

    Raises: As :class:`PanopticAnnotations`.
    """

    def __init__(self, ann_file: str, seg_prefix: str) -> None:
        self.annotations = PanopticAnnotations(ann_file, seg_prefix)

    def labels(self, dataset_meta: dict | None) -> list[int]:
        """The labels that are annotated as instances."""
        self.annotations.check_classes(dataset_meta)
        return self.annotations.is_thing.nonzero()[0].tolist()

    def load(self, img_id: int, dataset_meta: dict | None) -> list[dict]:
        """An image's instances as pycocotools wants them, with the label as ``category_id``.

        Raises: As :meth:`PanopticAnnotations.load`.
        """
        true_map, truth = self.annotations.load(img_id)
        labels = self.labels(dataset_meta)
        instances = []
        for i in np.isin(truth.labels, labels).nonzero()[0]:
            mask = true_map == truth.ids[i]
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            instances.append(
                dict(
                    category_id=int(truth.labels[i]),
                    segmentation=rle,
                    area=float(coco_mask.area(rle)),
                    iscrowd=int(not truth.is_countable[i]),
                )
            )
        return instances


class InstanceAnnotations:
    """COCO's instance annotations; labels are the positions of their names in the data set.

    Args:
        ann_file (str): COCO's instance annotations.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file holds panoptic annotations.
    """

    def __init__(self, ann_file: str) -> None:
        if not osp.isfile(ann_file):
            raise FileNotFoundError(f'ann_file not found: {osp.abspath(ann_file)}')
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.coco = COCO(ann_file)
            self.names = {category['id']: category['name'] for category in self.coco.cats.values()}
        except KeyError as error:
            raise ValueError(
                f'{ann_file}: no COCO instance annotations, {error} is missing (panoptic '
                'annotations need seg_prefix, too)'
            ) from error
        self.ann_file = ann_file

    def labels(self, dataset_meta: dict | None) -> list[int]:
        """The labels that are annotated as instances."""
        return list(self._label_of_category(dataset_meta).values())

    def load(self, img_id: int, dataset_meta: dict | None) -> list[dict]:
        """As :meth:`ThingAnnotations.load`.

        Raises:
            KeyError: The image is not in the annotation file.
        """
        if img_id not in self.coco.imgs:
            raise KeyError(f'image {img_id} is not in {self.ann_file}')
        labels = self._label_of_category(dataset_meta)
        return [
            dict(
                category_id=labels[annotation['category_id']],
                segmentation=self.coco.annToRLE(annotation),
                area=annotation['area'],
                iscrowd=annotation['iscrowd'],
            )
            for annotation in self.coco.imgToAnns[img_id]
            if annotation['category_id'] in labels
        ]

    def _label_of_category(self, dataset_meta: dict | None) -> dict[int, int]:
        classes = list((dataset_meta or {}).get('classes', self.names.values()))
        missing = sorted(set(self.names.values()) - set(classes))
        if missing:
            raise ValueError(f'{self.ann_file}: categories unknown to the data set: {missing}')
        return {category: classes.index(name) for category, name in self.names.items()}
