"""The transform that reads panoptic PNGs and instance masks."""

from __future__ import annotations

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as coco_mask

from mmbanet.registry import TRANSFORMS

from .annotation_files import Notices, read_segment_ids
from .image_files import check_loaded_size
from .panoptic_annotations import check_png_ids, settle_box
from .segmentation import encode_segmentation

VOID = 255  # mmdet's label of pixels without annotation


@TRANSFORMS.register_module()
class LoadPanopticAnnotations(LoadAnnotations):
    """mmdet's ``LoadPanopticAnnotations``, which checks what it reads, with masks that may overlap.

    Unlike mmdet's, it needs no panopticapi.

    Semantics are the PNG's. An instance that brings its own mask, from COCO's instance annotations,
    is taken as it is. The mask of any other is its segment in the PNG; a box that the annotation
    file lacks, or that is not that of the PNG, is computed from the PNG then, and a thing that is
    not in the PNG is left out. Both are said once.

    Required Keys:

    - img_id
    - img_path
    - height
    - width
    - seg_map_path (None: nothing is annotated)
    - segments_info
    - instances

      - bbox (may be None without ``mask``)
      - bbox_label
      - ignore_flag
      - mask (polygons or RLE, checked), or segment_id

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

    def __init__(
        self,
        with_bbox: bool = True,
        with_label: bool = True,
        with_mask: bool = True,
        with_seg: bool = True,
        box_type: str = 'hbox',
        imdecode_backend: str = 'cv2',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(
            with_bbox=with_bbox,
            with_label=with_label,
            with_mask=with_mask,
            with_seg=with_seg,
            box_type=box_type,
            imdecode_backend=imdecode_backend,
            backend_args=backend_args,
        )
        self.notices = Notices()

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
        visible, found = {}, []
        for segment in results['segments_info']:
            mask = ids == segment['id']
            if mask.any():
                found.append(segment)
                visible[segment['id']] = mask
                semantics[mask] = segment['category']
        listed = [segment['id'] for segment in results['segments_info']]
        missing = [segment_id for segment_id in listed if segment_id not in visible]
        unlisted = np.unique(ids[(semantics == VOID) & (ids != 0)]).tolist()
        check_png_ids(where, len(listed), missing, unlisted, self.notices)
        masks, instances = [], []
        for instance in results['instances']:
            if 'mask' in instance:
                mask = coco_mask.decode(encode_segmentation(instance['mask'], *ids.shape))
                if not mask.any():
                    said = f'an instance without a pixel is left out, at {instance["bbox"]}'
                    self.notices.say('hidden', f'{where}: {said}')
                    continue
            elif instance['segment_id'] in visible:
                mask = visible[instance['segment_id']].astype(np.uint8)
                place = f'{where}, segment {instance["segment_id"]}'
                instance['bbox'] = settle_box(place, instance['bbox'], box_of(mask), self.notices)
            else:
                continue
            masks.append(mask)
            instances.append(instance)
        results.update(segments_info=found, instances=instances)
        if self.with_mask:
            results['gt_masks'] = BitmapMasks(masks, *ids.shape)
        if self.with_seg:
            results['gt_seg_map'] = semantics


def box_of(mask: np.ndarray) -> list[int]:
    """x1, y1, x2, y2 in pixels around a mask (H, W) that is not empty."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return [int(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]
