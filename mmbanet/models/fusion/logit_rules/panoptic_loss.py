"""UPSNet's panoptic loss (arXiv 1901.03784): cross entropy of its panoptic logits at the stride.

Shapes: N images, G objects, K of them kept, S stuff classes, h x w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from mmbanet.models.semantic.logits import padded_labels

from .boxes import box_window, resize_into_box

KEPT_SHARE = 0.7
IGNORED = 255
IGNORED_TARGET = -100  # channels go beyond 255


class PanopticLoss:
    """The loss over ground-truth boxes with predicted masks; a third of the objects are unknown.

    Args:
        num_things_classes: T.
        weight: Of the loss; 0.1 in the authors' code.
        outside, unknown: As those of :class:`UPSNetRule`. Without unknown, no object is left out
            and other thing pixels do not count.
    """

    def __init__(
        self, num_things_classes: int, weight: float, outside: str = 'zero', unknown: bool = True
    ) -> None:
        self.num_things_classes = num_things_classes
        self.weight = weight
        self.outside = outside
        self.unknown = unknown

    def __call__(
        self, instances: list[InstanceData], logits: Tensor, data_samples: SampleList
    ) -> Tensor:
        """The mean over the images.

        Args:
            instances: Per image the ground truth's ``bboxes`` (G, 4) in pixels of the padded input,
                ``labels`` (G,) and predicted ``mask_logits`` (G, m, m).
            logits: (N, T + S, h, w), which cover the padded input.
            data_samples: With ``gt_sem_seg`` and ``gt_instances.masks``.
        """
        losses = [self._loss_of(*x) for x in zip(instances, logits.float(), data_samples)]
        return self.weight * torch.stack(losses).mean()

    def _loss_of(self, instances: InstanceData, logits: Tensor, sample) -> Tensor:
        count = len(instances)
        kept = torch.arange(count)
        if self.unknown and count > 0:
            kept = torch.randperm(count)[: max(round(KEPT_SHARE * count), 1)].sort().values
        labels = padded_labels([sample])[0]
        scale = labels.shape[-1] / logits.shape[-1]
        kept = kept.to(logits.device)
        panoptic = panoptic_logits(
            logits,
            instances.mask_logits[kept].float(),
            instances.bboxes[kept] / scale,
            instances.labels[kept],
            self.num_things_classes,
            self.outside,
            self.unknown,
        )
        target = self._target(labels, sample.gt_instances.masks, kept, panoptic)
        # The mean over all cells: those that are void count in it, with nothing.
        loss = F.cross_entropy(
            panoptic[None], target[None], ignore_index=IGNORED_TARGET, reduction='sum'
        )
        return loss / target.numel()

    def _target(self, labels: Tensor, masks, kept: Tensor, panoptic: Tensor) -> Tensor:
        """(h, w) int64: the channel that each cell should be of."""
        size, padded = panoptic.shape[1:], tuple(labels.shape[-2:])
        labels = F.interpolate(labels[None].float(), size=size, mode='nearest-exact')[0, 0].long()
        num_things = self.num_things_classes
        unknown = len(panoptic) - 1 if self.unknown else IGNORED_TARGET
        target = torch.where(labels < num_things, unknown, labels - num_things)
        target[labels == IGNORED] = IGNORED_TARGET
        first = len(panoptic) - len(kept) - int(self.unknown)
        if len(kept) > 0:
            masks = masks[kept.cpu().numpy()].pad(padded)  # unless the preprocessor pads masks
            masks = masks.to_tensor(torch.float32, labels.device)
            masks = F.interpolate(masks[None], size=size, mode='nearest-exact')[0] > 0.5
            for k, mask in enumerate(masks):  # later annotations over earlier ones, as in UPSNet
                target[mask] = first + k
                # A mask may reach beyond its box, where it cannot win with outside='exclude'.
                target[mask & (panoptic[first + k] == -torch.inf)] = IGNORED_TARGET
        return target


def panoptic_logits(
    logits: Tensor,
    mask_logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    num_things_classes: int,
    outside: str,
    unknown: bool,
) -> Tensor:
    """Z of UPSNet, (S + K + 1, h, w): stuff, instances, and unknown if wanted, with gradients.

    Args:
        logits: (T + S, h, w).
        mask_logits: (K, m, m).
        boxes: (K, 4) in cells of the logits.
        labels: (K,) int64.
        num_things_classes: T.
        outside: What an instance is worth outside of its box: ``'zero'`` or ``'exclude'``.
        unknown: Whether the last channel is the unknown class.
    """
    things, stuff = logits.tensor_split([num_things_classes])
    size = logits.shape[1:]
    fill = 0.0 if outside == 'zero' else -torch.inf
    semantic, instance = [], []
    for mask, box, label in zip(mask_logits, boxes, labels.tolist()):
        window = box_window(box, size)
        crop = things[label][window]
        both = crop + resize_into_box(mask, box, window)
        (top, bottom), (left, right) = ((s.start, n - s.stop) for s, n in zip(window, size))
        padding = left, right, top, bottom
        semantic.append(F.pad(crop, padding, value=fill))
        instance.append(F.pad(both, padding, value=fill))
    parts = [stuff]
    if instance:
        parts.append(torch.stack(instance))
    if unknown:
        rest = things.amax(dim=0)
        if semantic:
            explained = torch.stack(semantic).amax(dim=0)
            rest = rest - explained.masked_fill(explained == -torch.inf, 0)
        parts.append(rest[None])
    return torch.cat(parts)
