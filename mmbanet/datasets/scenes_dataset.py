"""The generated scenes as a data set."""

import numpy as np
from mmcv.transforms import BaseTransform
from pycocotools import mask as coco_mask

from mmbanet.registry import DATASETS, TRANSFORMS

from .panoptic_dataset import PanopticDataset
from .scenes.classes import METAINFO as SCENES_METAINFO
from .scenes.classes import SMALL_THINGS


@DATASETS.register_module()
class ScenesDataset(PanopticDataset):
    """COCO panoptic data with the classes of :mod:`mmbanet.datasets.scenes`.

    The ``segments_info`` of an image also hold each segment's full mask, ``amodal_rle``; None where
    the annotation file has none.
    """

    METAINFO = SCENES_METAINFO

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """mmdet's, with the full masks."""
        info = super().parse_data_info(raw_data_info)
        full_masks = {
            part['id']: part.get('amodal_rle')
            for part in raw_data_info['raw_ann_info']['segments_info']
        }
        for segment in info['segments_info']:
            segment['amodal_rle'] = full_masks[segment['id']]
        return info


@TRANSFORMS.register_module()
class IncludeThingsOnTop(BaseTransform):
    """Instance masks as COCO's annotators draw them: a person's mask includes the tie on it.

    COCO's instance annotations, which the paper trains with, overlap where a small thing lies on a
    large one; panoptic annotations do not. Every mask gets what the visible parts of the small
    things hide of it. The semantic map stays as it is. Comes after ``LoadPanopticAnnotations``.

    Required Keys:

    - segments_info, as of :class:`ScenesDataset`
    - gt_bboxes (BaseBoxes)
    - gt_masks (BitmapMasks)

    Modified Keys:

    - gt_bboxes
    - gt_masks

    Raises:
        ValueError: The annotation file has no full masks.
    """

    def transform(self, results: dict) -> dict:
        """Completes the masks."""
        classes = SCENES_METAINFO['classes']
        things = [segment for segment in results['segments_info'] if segment['is_thing']]
        if any(segment['amodal_rle'] is None for segment in things):
            raise ValueError(
                f'{results["img_path"]}: its annotations have no amodal_rle, as those of '
                'tools/make_scenes.py have; leave out IncludeThingsOnTop'
            )
        masks = results['gt_masks'].masks
        is_small = np.array([classes[part['category']] in SMALL_THINGS for part in things], bool)
        on_top = masks[is_small].any(axis=0)
        for mask, segment in zip(masks, things):
            mask |= coco_mask.decode(segment['amodal_rle']) & on_top
        results['gt_bboxes'] = results['gt_masks'].get_bboxes(type(results['gt_bboxes']))
        return results
