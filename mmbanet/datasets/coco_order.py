"""Who is in front of whom in COCO: its instance and its panoptic annotations together say it."""

from __future__ import annotations

import os.path as osp

import numpy as np
from pycocotools import mask as coco_mask

from mmbanet.structures import instance_order, instance_owner

from .annotation_files import read_segment_ids
from .coco_file import name_image
from .file_check import check_pngs, pngs_of, say_outside
from .instance_annotations import InstanceAnnotations
from .ordered_things import OrderedThings
from .panoptic_annotations import PanopticAnnotations, check_png_ids
from .segmentation import encode_segmentation


class CocoOrder:
    """The instances of a data set, crowds left out, in order: OCFusion's ground truth.

    Of two instances whose masks overlap by more than a threshold of either, the one to which the
    panoptic map clearly gives the overlap is in front (:func:`~mmbanet.structures.instance_order`).

    Args:
        ann_file: COCO's panoptic annotations.
        seg_prefix: Folder of their PNGs.
        instances_ann_file: COCO's instance annotations of the same images.
        overlap_thr: Share of the smaller mask, 0..1.
        backend_args: Of MMEngine's file backends.

    Attributes:
        image_ids: Of the annotated images, in the file's order.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is not as it must be, or the two are not of the same images and things.
    """

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        instances_ann_file: str,
        overlap_thr: float = 0.2,
        backend_args: dict | None = None,
    ) -> None:
        self.panoptic = PanopticAnnotations(ann_file, backend_args)
        self.instances = InstanceAnnotations(instances_ann_file, backend_args)
        self.instances.check_matches(self.panoptic)
        self.seg_prefix = seg_prefix
        self.overlap_thr = overlap_thr
        self.backend_args = backend_args
        self.image_ids = [i for i in self.panoptic.images if i in self.panoptic.annotations]

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, index: int) -> OrderedThings:
        return self.load(self.image_ids[index])

    def check_files(self) -> None:
        """Looks at the headers and ends of all PNGs, see :func:`.check_pngs`."""
        check_pngs(
            pngs_of(self.panoptic, self.seg_prefix),
            self.seg_prefix,
            self.panoptic.ann_file,
            self.panoptic.notices,
            self.backend_args,
        )

    def load(self, image_id: int | str) -> OrderedThings:
        """The instances of an annotated image, in the order of their file.

        Raises:
            FileNotFoundError: The PNG is missing.
            ValueError: It is not readable, or not that of the annotation.
        """
        image, annotation = self.panoptic.images[image_id], self.panoptic.annotations[image_id]
        size, name = (image['height'], image['width']), name_image(image_id, image)
        path = osp.join(self.seg_prefix, annotation['file_name'])
        say_outside(path, self.seg_prefix, self.panoptic.notices, self.backend_args)
        ids = read_segment_ids(path, size, name, self.backend_args)
        segments = {s['id']: s for s in annotation['segments_info']}
        found = {i for i in np.unique(ids).tolist() if i}
        check_png_ids(
            f'{path}: {name}',
            len(segments),
            sorted(set(segments) - found),
            sorted(found - set(segments)),
            self.panoptic.notices,
        )
        instances = [i for i in self.instances.instances[image_id] if not i.is_crowd]
        masks = np.zeros((len(instances), *size), dtype=bool)
        for mask, instance in zip(masks, instances):
            mask[:] = coco_mask.decode(encode_segmentation(instance.segmentation, *size))
        categories = np.array([i.category_id for i in instances], dtype=np.int64)
        own = {i: s['category_id'] for i, s in segments.items() if not s['iscrowd']}
        owner = instance_owner(masks, categories, ids, own)
        order = instance_order(masks, owner, self.overlap_thr)
        return OrderedThings(image['file_name'], categories, masks, owner, order)
