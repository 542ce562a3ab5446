"""What a model predicted, as arrays that the metrics count with."""

from __future__ import annotations

import numpy as np
from mmdet.structures.mask import encode_mask_results
from pycocotools import mask as coco_mask
from torch import Tensor

from mmbanet.structures import decode_ids
from mmbanet.structures.matching import NO_LABEL, Segments


def read_id_map(prediction: dict, size: tuple[int, int]) -> np.ndarray:
    """The map (H, W) of ``pred_panoptic_seg``, which is not modified.

    Args:
        prediction: With ``sem_seg`` (1, H, W), in mmdet's encoding, or, without that, with
            ``segment_ids`` (1, H, W).
        size: H and W of the annotation.

    Raises:
        KeyError: There is neither of both.
        ValueError: The size is another one.
    """
    for name in ('sem_seg', 'segment_ids'):
        if name in prediction:
            return _read_map('pred_panoptic_seg', prediction[name], size)
    raise KeyError('pred_panoptic_seg must have sem_seg or segment_ids')


def read_segments(prediction: dict, ids: np.ndarray, num_classes: int) -> Segments:
    """The segments of ``pred_panoptic_seg``.

    Args:
        prediction: With ``sem_seg``, mmdet's ids (:func:`decode_ids`),
            void where the label is ``num_classes`` or ``ignore_index`` (if there is one). Without
            it, with ``segments_info`` that has ``id`` and ``category`` of all ids but 0, void.
        ids: (P,), ascending, all that occur in the map.
        num_classes: Labels are in 0..num_classes-1.

    Raises:
        ValueError: A label or an id is unknown.
    """
    if 'sem_seg' in prediction:
        labels, _ = decode_ids(ids)
        is_void = labels == num_classes
        if 'ignore_index' in prediction:
            is_void |= labels == prediction['ignore_index']
    else:
        categories = {segment['id']: segment['category'] for segment in prediction['segments_info']}
        unknown = sorted(set(ids.tolist()) - {0, *categories})
        if unknown:
            raise ValueError(
                f'pred_panoptic_seg: segments_info does not list the segment_ids {unknown}'
            )
        labels = np.array([categories.get(i, num_classes) for i in ids.tolist()], dtype=np.int64)
        is_void = ids == 0
    _check_labels('pred_panoptic_seg', labels[~is_void], num_classes - 1)
    return Segments(ids, np.where(is_void, NO_LABEL, labels))


def read_semantic(prediction: dict, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """(H, W): the classes of ``pred_sem_seg.sem_seg`` (1, H, W), ``num_classes`` for none of them.

    Raises:
        ValueError: The size or a label is not as expected.
    """
    labels = _read_map('pred_sem_seg', prediction['sem_seg'], size)
    _check_labels('pred_sem_seg', labels, num_classes)
    return labels


def encode_masks(masks: Tensor | list[dict]) -> list[dict]:
    """Masks (N, H, W), or those that mmdet's ``DumpDetResults`` has encoded, as COCO's RLE."""
    if isinstance(masks, list):
        return masks
    return encode_mask_results(masks.cpu().numpy())


def decode_masks(masks: Tensor | list[dict], chosen: Tensor) -> np.ndarray:
    """(K, H, W) bool: the chosen ones (K,) of N masks as of :func:`encode_masks`."""
    if isinstance(masks, list):
        if len(chosen) == 0:
            return np.zeros((0, 0, 0), dtype=bool)
        decoded = coco_mask.decode([masks[i] for i in chosen.tolist()])
        return decoded.transpose(2, 0, 1).astype(bool)
    return masks[chosen.to(masks.device)].cpu().numpy()


def _read_map(name: str, values: Tensor, size: tuple[int, int]) -> np.ndarray:
    if tuple(values.shape) != (1, *size):
        raise ValueError(
            f'{name} must have the shape of the annotation, {(1, *size)}, got {tuple(values.shape)}'
        )
    return values[0].cpu().numpy()


def _check_labels(name: str, labels: np.ndarray, largest: int) -> None:
    if labels.size and not 0 <= labels.min() <= labels.max() <= largest:
        raise ValueError(
            f'{name}: labels must be in 0..{largest}, '
            f'got values from {labels.min()} to {labels.max()}'
        )
