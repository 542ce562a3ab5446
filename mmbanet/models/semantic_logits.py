"""What every semantic branch does with its logits: the loss, the resize to the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from torch import Tensor, nn


def semantic_loss(loss: nn.Module, logits: Tensor, data_samples: SampleList) -> Tensor:
    """Cross entropy at the logits' resolution.

    The labels (things first, then stuff, 255 for void) are brought to the logits' size by nearest
    neighbour, as in mmdet's panoptic head.

    Args:
        loss: A classification loss such as mmdet's ``CrossEntropyLoss``.
        logits: (N, C, H, W).
        data_samples: N samples with ``gt_sem_seg.sem_seg`` (1, h, w), padded to one size.
    """
    labels = torch.stack([sample.gt_sem_seg.sem_seg for sample in data_samples])
    labels = F.interpolate(labels.float(), size=logits.shape[-2:], mode='nearest')
    return loss(logits.float(), labels[:, 0].long())


def semantic_classes(logits: Tensor, num_things_classes: int, num_stuff_classes: int) -> Tensor:
    """The most likely class of every pixel.

    Args:
        logits: (C, H, W) of all classes, or of the stuff classes and then all things as one, as
            mmdet's ``PanopticFPNHead`` has them.
        num_things_classes: T.
        num_stuff_classes: S.

    Returns:
        (1, H, W) int64 in 0..T+S-1; T+S where things are one class.
    """
    # max() over channels is several times faster than argmax(), with the same result.
    classes = logits.max(dim=0, keepdim=True).indices
    if len(logits) != num_things_classes + num_stuff_classes:
        classes += num_things_classes
    return classes


def resize_logits(logits: Tensor, img_metas: Sequence[dict], rescale: bool) -> list[Tensor]:
    """Logits of each image at the size of its masks, the padding cut off.

    Args:
        logits: (N, C, H, W) of the padded batch at the semantic stride.
        img_metas: N dicts with ``batch_input_shape``, ``img_shape`` and ``ori_shape`` (h, w).
        rescale: To ``ori_shape`` (True) or to ``img_shape``, the size that the network saw.

    Returns:
        N tensors (C, h, w).
    """

    def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size=size, mode='bilinear', align_corners=False)

    resized = []
    for image_logits, meta in zip(logits.split(1), img_metas):
        height, width = meta['img_shape'][:2]
        image_logits = resize(image_logits, meta['batch_input_shape'])[..., :height, :width]
        if rescale:
            image_logits = resize(image_logits, meta['ori_shape'][:2])
        resized.append(image_logits[0])
    return resized
