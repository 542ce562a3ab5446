"""What is known of each segment of a panoptic map, beyond its pixels."""

from __future__ import annotations

from .graph import OcclusionGraph
from .panoptic_map import PanopticMap


def segments_info(
    panoptic: PanopticMap, graph: OcclusionGraph, detections: list[int]
) -> list[dict]:
    """The segments with their part in the occlusion graph; plain Python, ready for JSON.

    Args:
        panoptic (PanopticMap): The segments.
        graph (OcclusionGraph): Of K objects.
        detections (list[int]): The detection that each of the K objects is.

    Returns:
        list[dict]: Per segment ``id`` (from 1), ``category`` (label), ``is_thing``, ``score`` (None
        for stuff) and ``area`` (visible pixels). Things also have ``detection`` and ``overlaps``, a
        list of dicts, one for each object that claims some of the same pixels: ``detection``, its
        ``segment`` (id, None if it has no pixels left), ``in_front`` (whether this segment is in
        front of it in the end), ``rule`` (what decided the pair: ``'appearance'``, ``'smaller'``,
        ``'score'`` or ``'preference'``) and ``set_aside`` (the decision contradicted others of
        higher score and did not count).
    """
    segments = [dict(segment) for segment in panoptic.segments]
    by_object = dict(zip(panoptic.objects, segments))
    for k, segment in by_object.items():
        segment.update(detection=detections[k], overlaps=[])

    facts = zip(graph.pairs.tolist(), graph.rules, graph.accepted.tolist())
    for (front, behind), rule, accepted in facts:
        for k, other in ((front, behind), (behind, front)):
            if k in by_object:
                by_object[k]['overlaps'].append(
                    dict(
                        detection=detections[other],
                        segment=by_object[other]['id'] if other in by_object else None,
                        in_front=bool(graph.in_front[k, other]),
                        rule=rule,
                        set_aside=not accepted,
                    )
                )
    return segments
