"""Semantic logits: what their channels mean, their loss, their resize, and their labels.

Labels are those of the data set: T things from 0 on, then S stuff classes; T + S is void, or any
thing where all things are one class. What the channels of logits mean is a property of the head
that makes them, its ``semantic_layout``, and of the fusion head that takes them:

* ``'all'``: the T things, then the S stuff classes.
* ``'stuff_and_things'``: the S stuff classes, then one channel for all things, as in mmdet.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from mmbanet.ops import bilinear_matrix, resized_argmax, roi_align
from mmbanet.structures import check_not_nan

from .resized_logits import ResizedLogits

LAYOUTS = ('all', 'stuff_and_things')


def layout_of(head: nn.Module) -> str:
    """The layout of the logits that a semantic head makes, or that a fusion head takes.

    Raises:
        TypeError: The head does not say.
    """
    of_mmdet = isinstance(head, (PanopticFPNHead, HeuristicFusionHead))
    layout = getattr(head, 'semantic_layout', 'stuff_and_things' if of_mmdet else None)
    if layout not in LAYOUTS:
        raise TypeError(
            f'{type(head).__name__} must say what the channels of semantic logits mean: give the '
            f'class an attribute semantic_layout, one of {LAYOUTS}; got {layout!r}'
        )
    return layout


def padded_labels(data_samples: SampleList) -> Tensor:
    """Labels (N, 1, h, w) of the padded batch, void (255) where the images alone were padded.

    That is mmdet's default, ``pad_seg=False`` of the data preprocessor.
    """
    padded = []
    for sample in data_samples:
        labels = sample.gt_sem_seg.sem_seg
        size = getattr(sample, 'batch_input_shape', labels.shape[1:])
        below, right = (new - old for new, old in zip(size, labels.shape[1:]))
        padded.append(F.pad(labels, (0, right, 0, below), value=255))
    return torch.stack(padded)


def semantic_loss(
    loss: nn.Module, logits: Tensor, data_samples: SampleList, merged_things: int = 0
) -> Tensor:
    """Cross entropy at the resolution of the logits.

    The labels (255 for void) are brought to the logits' size by nearest neighbour of the cells'
    centres. mmdet's panoptic head takes the cells' top left pixels instead, which moves everything
    that it learns by 1.5 pixels of the image to the bottom right.

    Args:
        loss: A classification loss such as mmdet's ``CrossEntropyLoss``.
        logits: (N, T + S, H, W), or (N, S + 1, H, W) with ``merged_things``.
        data_samples: N samples with ``gt_sem_seg.sem_seg`` (1, h, w), see :func:`padded_labels`.
        merged_things: T of the layout ``'stuff_and_things'``; 0 of the layout ``'all'``.
    """
    labels = padded_labels(data_samples)
    labels = F.interpolate(labels.float(), size=logits.shape[-2:], mode='nearest-exact')
    labels = labels[:, 0].long()
    if merged_things:
        num_stuff = logits.shape[1] - 1
        stuff = labels - merged_things
        labels = torch.where((stuff >= 0) & (stuff < num_stuff), stuff, labels)
        labels = labels.masked_fill(stuff < 0, num_stuff)
    return loss(logits.float(), labels)


def roi_semantic_loss(
    loss: nn.Module, logits: Tensor, data_samples: SampleList, size: int = 28
) -> Tensor:
    """Cross entropy inside the annotated boxes, in each at ``size`` x ``size`` points: UPSNet's.

    The points are the centres of equal cells of the box, where logits are interpolated and labels
    are those of the pixels. Small objects count as much as large ones. 0, with gradients, without
    boxes.

    Args:
        loss: As for :func:`semantic_loss`.
        logits: (N, T + S, H, W).
        data_samples: As for :func:`semantic_loss`, with ``gt_instances.bboxes`` (G, 4).
        size: Points along each side.
    """
    labels = padded_labels(data_samples)[:, 0]
    rois = bbox2roi([sample.gt_instances.bboxes for sample in data_samples])
    logits = logits.float()  # or mixed precision would round the boxes, too
    if len(rois) == 0:
        return logits[:0].sum()  # the mean of no points is NaN
    crops = roi_align(logits, rois, size, logits.shape[-1] / labels.shape[-1], sampling_ratio=1)
    share = (torch.arange(size, device=rois.device) + 0.5) / size
    columns, rows = (
        (low[:, None] + share * (high - low)[:, None]).long().clamp(0, length - 1)
        for low, high, length in zip(rois[:, 1:3].T, rois[:, 3:].T, labels.shape[:0:-1])
    )
    images = rois[:, 0].long()[:, None, None]
    return loss(crops, labels[images, rows[:, :, None], columns[:, None]].long())


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


def merge_things(logits: Tensor, num_things_classes: int) -> Tensor:
    """Logits of all classes, (T + S, h, w), as stuff and things, (S + 1, h, w).

    The channel of all things is the largest of theirs, so every pixel keeps its most likely class.
    Of equal logits the first one counts, which is a thing's in one layout and stuff's in the other:
    stuff that equals the largest thing becomes -inf.
    """
    things, stuff = logits.tensor_split([num_things_classes])
    best_thing = things.amax(dim=0, keepdim=True)
    return torch.cat([stuff.masked_fill(stuff == best_thing, -torch.inf), best_thing])


def label_maps(
    logits: Tensor,
    img_metas: Sequence[dict],
    rescale: bool,
    num_things_classes: int,
    layout: str,
) -> list[Tensor]:
    """The most likely class of every pixel of :func:`resize_logits`, without resized logits.

    Args:
        logits: (N, C, H, W) of the padded batch at the semantic stride.
        img_metas: As for :func:`resize_logits`.
        rescale: As for :func:`resize_logits`.
        num_things_classes: T.
        layout: Of the channels, see :func:`layout_of`.

    Returns:
        N tensors (1, h, w) int32, labels in 0..T+S.

    Raises:
        ValueError: Logits are NaN, of which there is no most likely class.
    """
    cause = ': a weight of the model or a pixel of the image may not be finite'
    check_not_nan(logits, 'semantic logits', cause)
    first_label = 0 if layout == 'all' else num_things_classes
    maps = []
    for image_logits, meta in zip(logits, img_metas):
        rows, cols = (
            _resize_matrix(
                image_logits.shape[1 + axis],
                meta['batch_input_shape'][axis],
                meta['img_shape'][axis],
                meta['ori_shape'][axis] if rescale else meta['img_shape'][axis],
                logits.device,
            )
            for axis in (0, 1)
        )
        maps.append(resized_argmax(image_logits, rows, cols)[None].add_(first_label))
    return maps


def resized_logits(
    logits: Tensor, img_metas: Sequence[dict], rescale: bool, layout: str
) -> list[ResizedLogits]:
    """:func:`resize_logits` of each image, of which only what is asked for is resized."""

    def matrix(axis: int, meta: dict) -> Tensor:
        sizes = [meta[name][axis] for name in ('batch_input_shape', 'img_shape', 'ori_shape')]
        size = logits.shape[2 + axis]
        resize = _resize_matrix(size, *sizes[:2], sizes[2 if rescale else 1], logits.device)
        return torch.eye(size, device=logits.device) if resize is None else resize

    return [
        ResizedLogits(item, matrix(0, meta), matrix(1, meta), layout)
        for item, meta in zip(logits, img_metas)
    ]


def _resize_matrix(
    size: int, batch_size: int, img_size: int, new_size: int, device: torch.device
) -> Tensor | None:
    """One axis of :func:`resize_logits` as a matrix, (new_size, size), or None: nothing to do."""
    if size == batch_size == img_size == new_size:
        return None
    matrix = bilinear_matrix(size, batch_size, device)[:img_size]
    if img_size != new_size:  # by no product of matrices, of which TF32 would round the weights
        columns = matrix.T[None]
        matrix = F.interpolate(columns, size=new_size, mode='linear', align_corners=False)[0].T
    return matrix


@torch.no_grad()
def semantic_labels(
    prediction: Tensor,
    size: tuple[int, int],
    num_things_classes: int,
    num_stuff_classes: int,
    layout: str | None = None,
) -> Tensor:
    """The label of every pixel of one image, whatever a caller of a fusion head hands over.

    Args:
        prediction: Logits, floating point (C, h, w), which cover what the masks cover and are
            resized to them bilinearly; or labels, integer (H, W) or (1, H, W).
        size: H and W of the masks.
        num_things_classes: T.
        num_stuff_classes: S.
        layout: Of the channels of logits. None: their number tells, unless there is one thing
            class, where both layouts have S + 1 channels.

    Returns:
        (H, W) int32, labels in 0..T+S.

    Raises:
        TypeError: The prediction is no tensor of numbers.
        ValueError: It has another shape, other labels, or channels of another or unknown layout.
    """
    if not isinstance(prediction, Tensor) or prediction.dtype == torch.bool:
        kind = getattr(prediction, 'dtype', type(prediction).__name__)
        raise TypeError(f'the semantic prediction must be a tensor of numbers, got {kind}')
    if not prediction.is_floating_point():
        return _checked_labels(prediction, size, num_things_classes + num_stuff_classes)

    if prediction.ndim != 3 or 0 in prediction.shape:
        raise ValueError(
            f'semantic logits must have shape (C, h, w), got {tuple(prediction.shape)}'
        )
    layout = _checked_layout(layout, len(prediction), num_things_classes, num_stuff_classes)
    if 0 in size:
        return prediction.new_zeros(tuple(size), dtype=torch.int32)
    meta = dict(batch_input_shape=size, img_shape=size)
    return label_maps(prediction[None], [meta], False, num_things_classes, layout)[0][0]


def _checked_layout(
    layout: str | None, num_channels: int, num_things_classes: int, num_stuff_classes: int
) -> str:
    """The one layout that fits, or a ValueError."""
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f'semantic_layout must be None or one of {LAYOUTS}, got {layout!r}')
    channels = {
        'stuff_and_things': num_stuff_classes + 1,
        'all': num_things_classes + num_stuff_classes,
    }
    accepted = {name: n for name, n in channels.items() if layout in (None, name)}
    found = [name for name, count in accepted.items() if count == num_channels]
    if not found:
        wanted = ' or '.join(f'{count} ({name})' for name, count in accepted.items())
        raise ValueError(
            f'semantic logits must have {wanted} channels for {num_things_classes} thing and '
            f'{num_stuff_classes} stuff classes, got {num_channels}'
        )
    if len(found) > 1:
        raise ValueError(
            f'semantic_layout must be one of {LAYOUTS} for logits with one thing class, where both '
            f'have {num_channels} channels, got None; or hand over labels'
        )
    return found[0]


def _checked_labels(labels: Tensor, size: tuple[int, int], num_classes: int) -> Tensor:
    if tuple(labels.shape) not in (tuple(size), (1, *size)):
        raise ValueError(
            f'semantic labels must have the resolution of the masks {tuple(size)}, '
            f'got {tuple(labels.shape)}'
        )
    if labels.numel() > 0:
        low, high = (bound.item() for bound in torch.aminmax(labels))
        if low < 0 or high > num_classes:
            raise ValueError(
                f'semantic labels must be in 0..{num_classes} ({num_classes}: void), '
                f'got values from {low} to {high}'
            )
    return labels.reshape(tuple(size)).int()
