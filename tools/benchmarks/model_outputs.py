"""What a model hands to its fusion head, image by image, so that many fusions get the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmbanet.models import BANet
from mmbanet.models.fusion import FusionHead
from mmbanet.models.semantic.resized_logits import ResizedLogits


class Outputs(NamedTuple):
    """Of an image.

    Attributes:
        sample: With all that the model predicts but the panoptic map.
        batch: The batch of the loader that it is from.
        detections: With ``mask_logits`` and, if wanted, ``roi_features``.
        logits: Of semantics, at the size of the masks.
        labels: (1, H, W), the likeliest of them.
        image: (3, H, W) RGB.
    """

    sample: DetDataSample
    batch: dict
    detections: InstanceData
    logits: ResizedLogits
    labels: Tensor
    image: Tensor


class _Recorder(FusionHead):
    """Takes all that a fusion head can ask for, and keeps it."""

    needs_images = True
    needs_mask_logits = True
    needs_semantic_logits = True
    needs_scale_factor = True

    def predict(
        self, detections: list[InstanceData], logits: list[ResizedLogits], images: list[Tensor]
    ) -> list[PixelData]:
        """Nothing, of each image."""
        self.given = detections, logits, images
        return [PixelData() for _ in images]


@torch.no_grad()
def model_outputs(
    model: BANet, batches: Iterable[dict], roi_features: tuple[int, int, int] | None = None
) -> Iterator[Outputs]:
    """Runs a model on batches; its fusion head is replaced.

    Args:
        model: With mask logits and semantic logits to hand out.
        batches: Of a test loader.
        roi_features: Shape (C, r, r) of the mask branch's, if they are wanted.
    """
    old = model.panoptic_fusion_head
    recorder = _Recorder(old.num_things_classes, old.num_stuff_classes)
    recorder.needs_roi_features = roi_features
    model.panoptic_fusion_head = recorder
    for batch in batches:
        samples = model.test_step(batch)
        for sample, *given in zip(samples, *recorder.given, strict=True):
            detections, logits, image = given
            labels = sample.pred_sem_seg.sem_seg
            yield Outputs(sample, batch, detections, logits, labels, image)
