"""Annotated instances for AP: the things of panoptic annotations, or COCO's instances."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmbanet.datasets.annotation_files import read_json

from .panoptic_quality import count_pixels
from .panoptic_truth import PanopticTruth


class ThingAnnotations:
    """The things of panoptic annotations as instances.

    Args:
        ann_file (str): COCO's panoptic annotations.
        seg_prefix (str): Folder of their PNGs.
        backend_args (dict, optional): Of MMEngine's file backends.

    Raises: As :class:`PanopticTruth`.
    """

    def __init__(self, ann_file: str, seg_prefix: str, backend_args: dict | None = None) -> None:
        self.truth = PanopticTruth(ann_file, seg_prefix, backend_args)
        self.use_classes = self.truth.use_classes
        self.is_annotated = self.truth.is_annotated

    @property
    def labels(self) -> list[int]:
        """The labels that are annotated as instances."""
        return self.truth.is_thing.nonzero()[0].tolist()

    def load(self, img_id: int) -> list[dict]:
        """An image's instances as pycocotools wants them, with the label as ``category_id``.

        Raises: As :meth:`PanopticTruth.load` and :meth:`PanopticTruth.complete`.
        """
        true_map, truth = self.truth.load(img_id)
        pixels = count_pixels(truth, true_map)
        self.truth.complete(img_id, true_map, truth, pixels)
        instances = []
        for i in (np.isin(truth.labels, self.labels) & (pixels > 0)).nonzero()[0]:
            mask = true_map == truth.ids[i]
            rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            instances.append(
                dict(
                    category_id=int(truth.labels[i]),
                    segmentation=rle,
                    area=float(pixels[i]),
                    iscrowd=int(not truth.is_countable[i]),
                )
            )
        return instances


class InstanceAnnotations:
    """COCO's instance annotations; labels are the positions of their names in the data set.

    Args:
        ann_file (str): COCO's instance annotations.
        backend_args (dict, optional): Of MMEngine's file backends.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file holds panoptic annotations.
    """

    def __init__(self, ann_file: str, backend_args: dict | None = None) -> None:
        self.ann_file = ann_file
        self.coco = COCO()
        self.coco.dataset = read_json(ann_file, backend_args=backend_args)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self.coco.createIndex()
            self.names = {category['id']: category['name'] for category in self.coco.cats.values()}
        except KeyError as error:
            raise ValueError(
                f'{ann_file}: no COCO instance annotations, {error} is missing (panoptic '
                'annotations need seg_prefix, too)'
            ) from error
        self.use_classes(None)

    def use_classes(self, dataset_meta: dict | None) -> None:
        """Numbers the labels as a data set does; a ValueError if it lacks a category."""
        classes = list((dataset_meta or {}).get('classes', self.names.values()))
        missing = sorted(set(self.names.values()) - set(classes))
        if missing:
            raise ValueError(f'{self.ann_file}: categories unknown to the data set: {missing}')
        self._label_of = {i: classes.index(name) for i, name in self.names.items()}

    @property
    def labels(self) -> list[int]:
        """The labels that are annotated as instances."""
        return list(self._label_of.values())

    def is_annotated(self, img_id: int) -> bool:
        """Whether the file knows the image; it may have no instances.

        Raises:
            KeyError: It does not.
        """
        if img_id not in self.coco.imgs:
            raise KeyError(f'image {img_id} is not in {self.ann_file}')
        return True

    def load(self, img_id: int) -> list[dict]:
        """As :meth:`ThingAnnotations.load`."""
        return [
            dict(
                category_id=self._label_of[annotation['category_id']],
                segmentation=self.coco.annToRLE(annotation),
                area=annotation['area'],
                iscrowd=annotation['iscrowd'],
            )
            for annotation in self.coco.imgToAnns[img_id]
            if annotation['category_id'] in self._label_of
        ]
