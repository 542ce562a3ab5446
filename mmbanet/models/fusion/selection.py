"""The detections that take part in fusion (section 4.3)."""

from __future__ import annotations

import torch
from mmcv.ops import batched_nms
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.structures import check_not_nan


@torch.no_grad()
def select_detections(instances: InstanceData, score_thr: float, nms: dict | None) -> Tensor:
    """Detections with a score above the threshold, without duplicates of any class.

    The same detections go to RoIInlay and to fusion; selecting twice changes nothing.

    Args:
        instances: With ``bboxes`` (N, 4) and ``scores`` (N,).
        score_thr: Detections must score more than this.
        nms: ``nms_cfg`` of :func:`mmcv.ops.batched_nms`, such as
            ``dict(type='nms', iou_threshold=0.5)``, applied over all classes together. It decides
            who stays; scores stay as they are. None: no suppression.

    Returns:
        (K,) int64 on the CPU, the indices of the selected detections in descending order of
        score (equal scores: in the given order).
    """
    # There are few: the CPU is through with them before a GPU has started.
    scores, boxes = instances.scores.cpu(), instances.bboxes.cpu()
    check_not_nan(scores, 'scores')
    check_not_nan(boxes, 'bboxes')
    chosen = scores.argsort(descending=True, stable=True)
    chosen = chosen[scores[chosen] > score_thr]
    if nms is not None and len(chosen) > 0:
        candidates = scores[chosen]
        one_class = torch.zeros_like(chosen)
        boxes = boxes[chosen]
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f'bboxes must have the shape (N, 4), got {tuple(boxes.shape)}')
        # mmcv's operator is for float32 only.
        _, kept = batched_nms(
            boxes.float(), candidates.float(), one_class, dict(nms), class_agnostic=True
        )
        chosen = chosen[kept.sort().values]
    return chosen
