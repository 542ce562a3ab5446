"""What semantic branches do with their logits: the loss, the resize, the label maps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.structures import SampleList
from torch import Tensor, nn

from mmbanet.ops import bilinear_matrix, resized_argmax


def semantic_loss(loss: nn.Module, logits: Tensor, data_samples: SampleList) -> Tensor:
    """Cross entropy at the logits' resolution.

    The labels (things first, then stuff, 255 for void) are brought to the logits' size by nearest
    neighbour of the cells' centres. mmdet's panoptic head takes the cells' top left pixels instead,
    which moves everything that it learns by 1.5 pixels of the image to the bottom right.

    Args:
        loss: A classification loss such as mmdet's ``CrossEntropyLoss``.
        logits: (N, C, H, W).
        data_samples: N samples with ``gt_sem_seg.sem_seg`` (1, h, w), padded to one size.
    """
    labels = torch.stack([sample.gt_sem_seg.sem_seg for sample in data_samples])
    labels = F.interpolate(labels.float(), size=logits.shape[-2:], mode='nearest-exact')
    return loss(logits.float(), labels[:, 0].long())


def first_label(
    num_channels: int, num_things_classes: int, num_stuff_classes: int, layout: str = 'auto'
) -> int:
    """The label of the first channel of semantic logits.

    Args:
        num_channels: C.
        num_things_classes: T.
        num_stuff_classes: S.
        layout: ``'all'``: all T + S classes, things first. ``'stuff_and_things'``: the S stuff
            classes followed by one channel for all things, as of mmdet's ``PanopticFPNHead``.
            ``'auto'``: whichever has C channels; with one thing class both have, and the latter is
            taken.

    Raises:
        ValueError: C is not the layout's number of channels.
    """
    expected = {
        'stuff_and_things': num_stuff_classes + 1,
        'all': num_things_classes + num_stuff_classes,
    }
    if layout not in ('auto', *expected):
        raise ValueError(f"layout must be 'auto' or one of {tuple(expected)}, got {layout!r}")
    accepted = expected if layout == 'auto' else {layout: expected[layout]}
    found = [name for name, channels in accepted.items() if channels == num_channels]
    if not found:
        wanted = ' or '.join(f'{channels} ({name})' for name, channels in accepted.items())
        raise ValueError(
            f'semantic logits must have {wanted} channels for {num_things_classes} thing and '
            f'{num_stuff_classes} stuff classes, got {num_channels}'
        )
    return 0 if found[0] == 'all' else num_things_classes


def label_maps(
    logits: Tensor,
    img_metas: Sequence[dict],
    rescale: bool,
    num_things_classes: int,
    num_stuff_classes: int,
    layout: str = 'auto',
) -> list[Tensor]:
    """The most likely class of every pixel of :func:`resize_logits`, without resized logits.

    Args:
        logits: (N, C, H, W) of all classes, or of the stuff classes and then all things as one, as
            mmdet's ``PanopticFPNHead`` has them.
        img_metas: As for :func:`resize_logits`.
        rescale: As for :func:`resize_logits`.
        num_things_classes: T.
        num_stuff_classes: S.
        layout: Of the channels, see :func:`first_label`.

    Returns:
        N tensors (1, h, w) int32 in 0..T+S-1; T+S where things are one class.
    """
    offset = first_label(logits.shape[1], num_things_classes, num_stuff_classes, layout)
    maps = []
    for image_logits, meta in zip(logits, img_metas):
        rows, cols = (
            _resize_matrix(
                image_logits.shape[1 + axis],
                meta['batch_input_shape'][axis],
                meta['img_shape'][axis],
                meta['ori_shape'][axis] if rescale else None,
            ).to(logits.device)
            for axis in (0, 1)
        )
        maps.append(resized_argmax(image_logits, rows, cols)[None].add_(offset))
    return maps


def _resize_matrix(size: int, batch_size: int, img_size: int, ori_size: int | None) -> Tensor:
    """One axis of :func:`resize_logits` as a matrix, (new size, size)."""
    matrix = bilinear_matrix(size, batch_size)[:img_size]
    if ori_size in (None, img_size):
        return matrix
    return bilinear_matrix(img_size, ori_size) @ matrix


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
