"""What a trained model hands to its I2S head, computed once for many heads.

Shapes: K boxes, H x W pixels of the result.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from mmengine.utils import ProgressBar
from torch import Tensor

from mmbanet.models import BANet

ANNOTATED, DETECTIONS = 'annotated', 'detections'


class Frozen(NamedTuple):
    """Of an image.

    Attributes:
        sample: Its annotation and meta information, in the size of the network's input.
        semantic: F_S (C, h, w).
        boxes: By kind, annotated ones and the detections that go to fusion, (K, 4) in pixels of the
            network's input.
        instances: By kind, F_ins (K, C, r, r) of these.
        things: The detections that go to fusion, in the size of the result.
        owner: (H, W) int64, which of them owns a pixel, -1 for none.
    """

    sample: DetDataSample
    semantic: Tensor
    boxes: dict[str, Tensor]
    instances: dict[str, Tensor]
    things: InstanceData
    owner: Tensor


def without_chance(pipeline: list[dict]) -> list[dict]:
    """The transforms of training that do the same each time."""
    return [step for step in pipeline if 'Random' not in step['type']]


@torch.no_grad()
def freeze(model: BANet, dataset: dict, pipeline: list[dict]) -> list[Frozen]:
    """Of all images of a data set.

    Args:
        model: With I2S, in evaluation mode; images are fused by its own fusion head.
        dataset: Config of the data set.
        pipeline: Its transforms, with annotations.

    Raises:
        ValueError: The images are not of one size.
    """
    images = DATASETS.build(dict(dataset, pipeline=pipeline, test_mode=True))
    progress, found = ProgressBar(len(images)), []
    for index in range(len(images)):
        found.append(_freeze(model, pseudo_collate([images[index]])))
        progress.update()
    sizes = {tuple(item.semantic.shape) for item in found}
    if len(sizes) > 1:
        raise ValueError(f'images must be of one size, got features of {sorted(sizes)}')
    return found


def _freeze(model: BANet, batch: dict) -> Frozen:
    batch = model.data_preprocessor(batch, training=True)  # pads the annotation, too
    inputs, (sample,) = batch['inputs'], batch['data_samples']
    pyramid = model.extract_feat(inputs)
    semantic = model.semantic_head(pyramid, with_logits=False)
    roi_inputs = model._roi_inputs(pyramid, semantic)
    proposals = model.rpn_head.predict(pyramid, [sample], rescale=False)
    (found,) = model.roi_head.predict(roi_inputs, proposals, [sample], rescale=True)
    (chosen,) = model._select_for_fusion([found])
    head = model.panoptic_fusion_head
    if len(found) == 0:
        owner = torch.full(sample.ori_shape[:2], -1)
    else:
        image = None
        if head.needs_images:
            (image,) = model._images_for_fusion(inputs, [sample.metainfo], rescale=True)
        owner, _ = head._resolve(found, chosen, image, None)
    scale = found.bboxes.new_tensor(sample.scale_factor).repeat(2)
    boxes = {
        ANNOTATED: sample.gt_instances.bboxes,
        DETECTIONS: found.bboxes[chosen] * scale,
    }
    instances = {
        kind: model._instance_features(roi_inputs, bbox2roi([of])) for kind, of in boxes.items()
    }
    sample.gt_instances.pop('masks')  # the largest part of an annotation
    return Frozen(sample, semantic['seg_feats'][0], boxes, instances, found[chosen], owner)
