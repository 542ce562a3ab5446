"""The annotation of an image as the oracles need it.

Shapes: G annotated things, H x W pixels of the original image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

IGNORED = 255  # mmdet's label of pixels without annotation


class GroundTruth(NamedTuple):
    """Things (crowds are none) and semantics.

    Attributes:
        boxes: (G, 4), x1, y1, x2, y2 in pixels of the network's input.
        labels: (G,) int64.
        masks: (G, H, W) bool, the visible pixels; no two things overlap.
        semantics: (H, W) int64, the labels of things (also of crowds) and stuff,
            ``IGNORED`` where there is no annotation.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    semantics: Tensor

    @classmethod
    def from_sample(cls, sample: DetDataSample, device: torch.device) -> GroundTruth:
        """Reads what ``LoadPanopticAnnotations`` put into a sample after ``Resize``.

        Raises:
            ValueError: The sample has no annotation, or it is not that of the original image.
        """
        _check_annotated(sample)
        things = sample.gt_instances
        masks = things.masks.to_tensor(torch.bool, device)
        semantics = sample.gt_sem_seg.sem_seg[0].to(device).long()
        size = tuple(sample.ori_shape[:2])
        for name, found in (('masks', masks.shape[1:]), ('semantics', semantics.shape)):
            if tuple(found) != size:
                raise ValueError(
                    f'image {sample.get("img_id")}: the annotated {name} must have the size of the '
                    f'original image {size}, got {tuple(found)}; put LoadPanopticAnnotations after '
                    'Resize in the test pipeline'
                )
        boxes = get_box_tensor(things.bboxes).to(device).float()
        scale = boxes.new_tensor(sample.scale_factor).repeat(2)
        return cls(boxes * scale, things.labels.to(device), masks, semantics)

    def resized(self, size: tuple[int, int]) -> GroundTruth:
        """With masks and semantics of another size (H, W), by nearest neighbour."""
        if tuple(self.semantics.shape) == tuple(size):
            return self
        maps = torch.cat([self.semantics[None], self.masks]).float()
        maps = F.interpolate(maps[None], size=tuple(size), mode='nearest-exact')[0]
        return self._replace(masks=maps[1:] > 0, semantics=maps[0].long())


def _check_annotated(sample: DetDataSample) -> None:
    things = sample.get('gt_instances', ())
    missing = [
        f'gt_instances.{name}' for name in ('bboxes', 'labels', 'masks') if name not in things
    ]
    if 'gt_sem_seg' not in sample:
        missing.append('gt_sem_seg')
    if missing:
        raise ValueError(
            f'image {sample.get("img_id")}: oracles need its annotation, missing '
            f'{", ".join(missing)}; the data set must have annotations, and the test pipeline '
            'LoadPanopticAnnotations'
        )
