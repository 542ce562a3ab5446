"""Instances and stuff composed into one panoptic map (section 3.4), and what is known of it.

Shapes: K objects, H x W pixels.
"""

from __future__ import annotations

import warnings

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmbanet.structures import INSTANCE_OFFSET, OcclusionGraph, PanopticMap, encode_ids
from mmbanet.structures.panoptic_map import MAX_INSTANCE, MAX_SEGMENT_ID


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
        owner: (H, W) int64, index of the object that owns the pixel, -1 for none.
        semantics: (H, W) int32, see :func:`semantic_labels`.
        labels: (K,) int64, the objects' classes.
        scores: (K,), the objects' scores.
        num_things_classes: T.
        num_stuff_classes: S.
        stuff_area_limit: A stuff class with fewer visible pixels becomes void.

    Raises:
        ValueError: There are more segments than ids.
    """
    num_classes = num_things_classes + num_stuff_classes
    first_object = num_classes + 1
    # One code for semantic labels, void and objects, so that tables translate all of them.
    code = torch.where(owner < 0, semantics, owner.int() + first_object).flatten()
    area = torch.bincount(code, minlength=first_object + len(labels)).tolist()

    segment_id = [0] * len(area)
    mmdet_id = [num_classes] * len(area)
    segments, objects = [], []

    def add(place: int, label: int, score: float | None) -> None:
        is_thing = score is not None
        number = len(segments) + 1
        segments.append(
            dict(id=number, category=label, is_thing=is_thing, score=score, area=area[place])
        )
        segment_id[place] = number
        mmdet_id[place] = encode_ids(label, number if is_thing else 0)

    for k, (label, score) in enumerate(zip(labels.tolist(), scores.tolist())):
        if area[first_object + k] > 0:
            objects.append(k)
            add(first_object + k, label, score)
    for label in range(num_things_classes, num_classes):
        if area[label] >= max(stuff_area_limit, 1):
            add(label, label, None)
    if len(segments) > MAX_SEGMENT_ID:
        raise ValueError(f'{len(segments)} segments, but there are only {MAX_SEGMENT_ID} ids')

    fits = num_classes < INSTANCE_OFFSET and len(objects) <= MAX_INSTANCE
    tables = [segment_id, mmdet_id] if fits else [segment_id]
    tables = torch.tensor(tables, dtype=torch.int32, device=code.device)
    segment_ids, *mmdet_ids = (table.index_select(0, code).view(owner.shape) for table in tables)
    return PanopticMap(segment_ids, mmdet_ids[0] if fits else None, segments, objects)


def segments_info(
    panoptic: PanopticMap, graph: OcclusionGraph | None, detections: list[int]
) -> list[dict]:
    """The segments with their part in the occlusion graph; plain Python, ready for JSON.

    Args:
        panoptic: The segments.
        graph: Of K objects; None: nothing is known of who is in front.
        detections: The detection that each of the K objects is.

    Returns:
        Per segment ``id`` (from 1), ``category`` (label), ``is_thing``, ``score`` (None
        for stuff) and ``area`` (visible pixels). Things also have ``detection`` and ``overlaps``, a
        list of dicts, one for each object that claims some of the same pixels: ``detection``, its
        ``segment`` (id, None if it has no pixels left), ``in_front`` (whether this segment is in
        front of it in the end), ``rule`` (what decided the pair, see :class:`OcclusionGraph`) and
        ``set_aside`` (the decision contradicted others before it and did not count). Things of
        which others were dropped as duplicates have ``duplicates``, a list of dicts:
        ``detection``, ``iou`` and ``containment``, the share of the smaller one that both claim.
    """
    segments = [dict(segment) for segment in panoptic.segments]
    by_object = dict(zip(panoptic.objects, segments))
    for k, segment in by_object.items():
        segment.update(detection=detections[k], overlaps=[])
    if graph is None:
        return segments

    doubles = zip(graph.duplicates.tolist(), graph.alike.tolist())
    for (dropped, kept), (iou, containment) in doubles:
        if kept in by_object:
            by_object[kept].setdefault('duplicates', []).append(
                dict(detection=detections[dropped], iou=iou, containment=containment)
            )
    in_front = graph.in_front.numpy()
    facts = zip(graph.pairs.tolist(), graph.rules, graph.accepted.tolist())
    for (front, behind), rule, accepted in facts:
        for k, other in ((front, behind), (behind, front)):
            if k in by_object:
                by_object[k]['overlaps'].append(
                    dict(
                        detection=detections[other],
                        segment=by_object[other]['id'] if other in by_object else None,
                        in_front=bool(in_front[k, other]),
                        rule=rule,
                        set_aside=not accepted,
                    )
                )
    return segments


def pixel_data(
    panoptic: PanopticMap, graph: OcclusionGraph | None, detections: Tensor, num_classes: int
) -> PixelData:
    """What fusion heads predict of an image, see :meth:`OcclusionAwareFusionHead.predict`.

    Args:
        panoptic: The segments.
        graph: As for :func:`segments_info`; None: left out.
        detections: (K,) int64, the detection that each of the K objects is.
        num_classes: T + S.
    """
    detections = detections.cpu()
    info = dict(
        segments_info=segments_info(panoptic, graph, detections.tolist()), detections=detections
    )
    if graph is not None:
        info['occlusion'] = graph
    result = PixelData(segment_ids=panoptic.segment_ids[None])
    for name, value in info.items():  # metainfo=info would copy all of it, deeply
        result.set_field(value, name, field_type='metainfo')
    if panoptic.mmdet_ids is not None:
        result.sem_seg = panoptic.mmdet_ids[None]
    else:
        warnings.warn(
            f"no sem_seg in mmdet's encoding: it cannot tell {num_classes} classes and "
            f'{len(panoptic.objects)} things apart; use segment_ids and segments_info',
            stacklevel=3,
        )
    return result
