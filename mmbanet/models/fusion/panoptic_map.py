"""Instances and stuff composed into one panoptic map (section 3.4).

Shapes: K objects, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from torch import Tensor

# COCO writes segment ids into the 24 bits of an RGB pixel; 0 is void.
MAX_SEGMENT_ID = 2**24 - 1
# The same limit for mmdet's ids, label + instance * INSTANCE_OFFSET.
MAX_MMDET_INSTANCES = MAX_SEGMENT_ID // INSTANCE_OFFSET - 1


class PanopticMap(NamedTuple):
    """A panoptic map with its segments.

    Attributes:
        segment_ids (Tensor): (H, W) int32, ids of ``segments``, 0 for void.
        mmdet_ids (Tensor, optional): (H, W) int32 in mmdet's encoding: things
            ``label + id * INSTANCE_OFFSET``, stuff its label, void the number of classes. None
            where that cannot tell all segments apart in 24 bits.
        segments (list[dict]): ``id`` from 1, ``category`` (label), ``is_thing``, ``score`` (None
            for stuff) and ``area`` (pixels): things in the order of the objects, then stuff.
        objects (list[int]): The object of each thing of ``segments``.
    """

    segment_ids: Tensor
    mmdet_ids: Tensor | None
    segments: list[dict]
    objects: list[int]


@torch.no_grad()
def compose_panoptic_map(
    owner: Tensor,
    semantics: Tensor,
    labels: Tensor,
    scores: Tensor,
    num_things_classes: int,
    num_stuff_classes: int,
    stuff_area_limit: int,
) -> PanopticMap:
    """Lays the instances over the stuff and makes small stuff void.

    Args:
        owner (Tensor): (H, W) int32, index of the object that owns the pixel, -1 for none.
        semantics (Tensor): (H, W) int32, see :func:`semantic_labels`.
        labels (Tensor): (K,) int64, the objects' classes.
        scores (Tensor): (K,), the objects' scores.
        num_things_classes (int): T.
        num_stuff_classes (int): S.
        stuff_area_limit (int): A stuff class with fewer visible pixels becomes void.

    Raises:
        ValueError: There are more segments than ids.
    """
    num_classes = num_things_classes + num_stuff_classes
    first_object = num_classes + 1
    # One code for semantic labels, void and objects, so that tables translate all of them.
    code = torch.where(owner < 0, semantics, owner + first_object).flatten()
    area = torch.bincount(code, minlength=first_object + len(labels)).tolist()

    segment_id = [0] * len(area)
    mmdet_id = [num_classes] * len(area)
    segments, objects = [], []

    def add(place: int, label: int, score: float | None) -> None:
        segments.append(
            dict(
                id=len(segments) + 1,
                category=label,
                is_thing=score is not None,
                score=score,
                area=area[place],
            )
        )
        segment_id[place] = len(segments)
        mmdet_id[place] = label + (len(segments) * INSTANCE_OFFSET if score is not None else 0)

    for k, (label, score) in enumerate(zip(labels.tolist(), scores.tolist())):
        if area[first_object + k] > 0:
            objects.append(k)
            add(first_object + k, label, score)
    for label in range(num_things_classes, num_classes):
        if area[label] >= max(stuff_area_limit, 1):
            add(label, label, None)
    if len(segments) > MAX_SEGMENT_ID:
        raise ValueError(f'{len(segments)} segments, but there are only {MAX_SEGMENT_ID} ids')

    def translate(table: list[int]) -> Tensor:
        table = torch.tensor(table, dtype=torch.int32, device=code.device)
        return table.index_select(0, code).view(owner.shape)

    fits = num_classes < INSTANCE_OFFSET and len(objects) <= MAX_MMDET_INSTANCES
    mmdet_ids = translate(mmdet_id) if fits else None
    return PanopticMap(translate(segment_id), mmdet_ids, segments, objects)
