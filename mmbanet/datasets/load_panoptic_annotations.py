"""The transform that reads panoptic PNGs."""

from __future__ import annotations

import numpy as np
from mmdet.datasets.transforms import LoadPanopticAnnotations as MMDetLoadPanopticAnnotations
from mmdet.structures.mask import BitmapMasks

from mmbanet.registry import TRANSFORMS

from .annotation_files import Notices, check_loaded_size, read_segment_ids
from .panoptic_annotations import check_png_ids

VOID = 255  # mmdet's label of pixels without annotation


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(MMDetLoadPanopticAnnotations):
    """mmdet's ``LoadPanopticAnnotations``, which checks what it reads.

    Boxes that the annotation file lacks, or that are not those of the PNG, are computed from the
    PNG; things that are not in the PNG are left out. Both are said once.

    Required Keys:

    - img_id
    - img_path
    - height
    - width
    - seg_map_path (None: nothing is annotated)
    - segments_info
    - instances (one for each segment with ``is_thing``, in their order; ``bbox`` may be None)

    Modified Keys:

    - segments_info
    - instances

    Added Keys:

    - gt_bboxes (BaseBoxes[torch.float32])
    - gt_bboxes_labels (np.int64)
    - gt_ignore_flags (bool)
    - gt_masks (BitmapMasks)
    - gt_seg_map (np.int32), 255 where nothing is annotated

    Args: as mmdet's.

    Raises:
        FileNotFoundError: The PNG is missing.
        ValueError: It is not readable, or not that of the annotation, or the image was loaded in
            another size.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.notices = Notices()

    @classmethod
    def of(cls, transform: MMDetLoadPanopticAnnotations) -> LoadPanopticAnnotations:
        """The one that loads what a transform of mmdet loads."""
        keys = ('with_bbox', 'with_label', 'with_mask', 'with_seg', 'box_type', 'backend_args')
        return cls(**{key: getattr(transform, key) for key in keys})

    def transform(self, results: dict) -> dict:
        """Loads boxes, labels, masks and semantics."""
        if results.get('seg_map_path') is not None:
            size = results['height'], results['width']
            image = f'image {results["img_id"]}'
            if 'ori_shape' in results:
                check_loaded_size(results['img_path'], results['ori_shape'], size, image)
            ids = read_segment_ids(results['seg_map_path'], size, image, self.backend_args)
            self._load_segments(results, ids, f'{results["seg_map_path"]}: {image}')
        if self.with_bbox:
            self._load_bboxes(results)
        if self.with_label:
            self._load_labels(results)
        return results

    def _load_segments(self, results: dict, ids: np.ndarray, where: str) -> None:
        """Masks, semantics and boxes of the segments in a map of ids (H, W)."""
        semantics = np.full(ids.shape, VOID, dtype=np.int32)
        found, missing, masks, instances = [], [], [], []
        boxes = iter(results['instances'])
        for segment in results['segments_info']:
            mask = ids == segment['id']
            instance = next(boxes) if segment['is_thing'] else None
            box = box_of(mask)
            if box is None:
                missing.append(segment['id'])
                continue
            found.append(segment)
            semantics[mask] = segment['category']
            if instance is not None:
                self._settle_box(instance, box, f'{where}, segment {segment["id"]}')
                instances.append(instance)
                masks.append(mask.astype(np.uint8))
        unlisted = np.unique(ids[(semantics == VOID) & (ids != 0)]).tolist()
        listed = len(results['segments_info'])
        check_png_ids(where, listed, missing, unlisted, self.notices)
        results.update(segments_info=found, instances=instances)
        if self.with_mask:
            results['gt_masks'] = BitmapMasks(masks, *ids.shape)
        if self.with_seg:
            results['gt_seg_map'] = semantics

    def _settle_box(self, instance: dict, box: list[int], where: str) -> None:
        """Takes the PNG's box where the file has none or another one, by more than rounding."""
        given = instance['bbox']
        if given is not None and max(abs(a - b) for a, b in zip(given, box)) <= 1:
            return
        if given is not None:
            self.notices.say(
                'bbox',
                f'{where}: its bbox (x1, y1, x2, y2) is {given} in the annotation file, {box} in '
                "the PNG, whose is used; other segments' may differ as well",
            )
        instance['bbox'] = box


def box_of(mask: np.ndarray) -> list[int] | None:
    """x1, y1, x2, y2 in pixels around a mask (H, W) bool, None around nothing."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    if not len(rows):
        return None
    return [int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
