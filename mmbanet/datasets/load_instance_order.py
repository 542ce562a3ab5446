"""The transforms that find out, and pack, who is in front of whom."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import PackDetInputs

from mmbanet.registry import TRANSFORMS
from mmbanet.structures import instance_order, instance_owner

from .annotation_files import read_segment_ids


@TRANSFORMS.register_module()
class LoadInstanceOrder(BaseTransform):
    """Who is in front, where instance masks overlap and a panoptic PNG gives the overlap to one.

    OCFusion's ground truth, see :func:`~mmbanet.structures.instance_order`. It belongs directly
    behind :class:`LoadPanopticAnnotations`, of a data set with ``instances_ann_file``: masks of the
    PNG itself never overlap. What drops instances later does not know of it, so that neither
    ``RandomCrop`` nor ``FilterAnnotations`` may follow (:class:`PackOrderedInputs` refuses that).

    Required Keys:

    - img_id
    - height
    - width
    - seg_map_path (None: nothing is known)
    - segments_info
    - gt_masks (BitmapMasks)
    - gt_bboxes_labels (np.int64)
    - gt_ignore_flags (bool)

    Added Keys:

    - gt_order (np.int8): (K, K), 1 at [i, j] where i is in front of j, -1 the opposite, 0 unknown;
      of crowds nothing is known

    Args:
        overlap_thr: Share of the smaller mask by which two overlap to be a pair, 0..1. The pairs
            that the head asks for (``test_cfg.panoptic.occlusion_thr``) should be among them.
        backend_args: Of MMEngine's file backends.

    Raises:
        FileNotFoundError: The PNG is missing.
        ValueError: It is not readable or not of the size of the masks, or a setting is out of
            range.
    """

    def __init__(self, overlap_thr: float = 0.2, backend_args: dict | None = None) -> None:
        if not 0 <= overlap_thr <= 1:
            raise ValueError(f'overlap_thr must be a share in 0..1, got {overlap_thr}')
        self.overlap_thr = overlap_thr
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Adds gt_order."""
        missing = [
            key for key in ('gt_masks', 'gt_bboxes_labels', 'gt_ignore_flags') if key not in results
        ]
        if missing:
            raise ValueError(
                f'LoadInstanceOrder needs {", ".join(missing)}: put it behind '
                'LoadPanopticAnnotations'
            )
        count = len(results['gt_masks'])
        results['gt_order'] = np.zeros((count, count), dtype=np.int8)
        known = np.flatnonzero(results['gt_ignore_flags'] == 0)
        if results.get('seg_map_path') is None or len(known) < 2:
            return results
        size = results['height'], results['width']
        if (results['gt_masks'].height, results['gt_masks'].width) != size:
            raise ValueError(
                f'image {results["img_id"]}: gt_masks must have the size of the PNG {size}, got '
                f'{(results["gt_masks"].height, results["gt_masks"].width)}; put LoadInstanceOrder '
                'before Resize and others that change it'
            )
        ids = read_segment_ids(
            results['seg_map_path'], size, f'image {results["img_id"]}', self.backend_args
        )
        things = {s['id']: s['category'] for s in results['segments_info'] if s['is_thing']}
        masks = results['gt_masks'].masks[known].astype(bool)
        owner = instance_owner(masks, results['gt_bboxes_labels'][known], ids, things)
        order = instance_order(masks, owner, self.overlap_thr)
        results['gt_order'][np.ix_(known, known)] = order
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(overlap_thr={self.overlap_thr})'


@TRANSFORMS.register_module()
class PackOrderedInputs(PackDetInputs):
    """mmdet's ``PackDetInputs``, which also packs ``gt_order``.

    ``gt_instances.order`` is (K, K) int8, of the instances that are no crowds.

    Args: as mmdet's.

    Raises:
        ValueError: There is no ``gt_order``, or instances were dropped after it was made.
    """

    def transform(self, results: dict) -> dict:
        """Packs image, annotations and order."""
        order = results.get('gt_order')
        count = len(results.get('gt_bboxes_labels', ()))
        if order is None or order.shape != (count, count):
            raise ValueError(
                f'gt_order must be ({count}, {count}), who is in front of whom, got '
                f'{None if order is None else order.shape}: LoadInstanceOrder makes it, and '
                'RandomCrop and FilterAnnotations, which drop instances, must not follow'
            )
        packed = super().transform(results)
        kept = np.flatnonzero(results['gt_ignore_flags'] == 0)
        instances = packed['data_samples'].gt_instances
        instances.order = torch.from_numpy(order[np.ix_(kept, kept)].astype(np.int8))
        return packed
