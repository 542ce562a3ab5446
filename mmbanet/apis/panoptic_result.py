"""What a panoptic model says of an image, in the forms that other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from mmdet.structures import DetDataSample
from pycocotools import mask as coco_mask

from mmbanet.datasets.panoptic_files import segment_info
from mmbanet.evaluation.panoptic_quality import NO_LABEL
from mmbanet.evaluation.predictions import read_id_map, read_segments


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """A panoptic map with its segments.

    Attributes:
        segment_ids: (H, W) int32, ids of ``segments``, 0 for void.
        segments: Per segment ``id`` (from 1), ``category`` (label, an index of ``classes``),
            ``is_thing``, ``score`` (None where the model gives none), ``area`` (pixels) and
            ``bbox`` (x, y, width, height); of things that were ordered by occlusion handling also
            ``overlaps``, see :func:`mmbanet.models.fusion.compose.segments_info`.
        classes: Names of the classes, things first.
        num_things: How many of them are things.
    """

    segment_ids: np.ndarray
    segments: list[dict]
    classes: tuple[str, ...]
    num_things: int

    @classmethod
    def from_sample(cls, sample: DetDataSample, dataset_meta: dict) -> PanopticResult:
        """Of the prediction of any of mmdet's panoptic models.

        Args:
            sample: With ``pred_panoptic_seg``.
            dataset_meta: With ``classes`` and ``thing_classes``, as a model of
                :func:`mmbanet.apis.init_model` has it.

        Raises:
            ValueError: The model is no panoptic one.
        """
        if 'pred_panoptic_seg' not in sample:
            raise ValueError('the model predicts no panoptic maps (pred_panoptic_seg)')
        classes, num_things = tuple(dataset_meta['classes']), len(dataset_meta['thing_classes'])
        found = sample.pred_panoptic_seg
        prediction = {key: found.get(key) for key in found.all_keys()}
        known = {segment['id']: segment for segment in prediction.get('segments_info', ())}
        # Ids of our own where there are any: mmdet's are another map of the same segments.
        if known:
            prediction.pop('sem_seg', None)
        size = tuple(found.shape[-2:])
        given = read_id_map(prediction, size)
        ids, inverse = np.unique(given, return_inverse=True)
        labels = read_segments(prediction, ids, len(classes)).labels
        number = np.zeros(len(ids), dtype=np.int32)
        number[labels != NO_LABEL] = (
            ids[labels != NO_LABEL] if known else 1 + np.arange((labels != NO_LABEL).sum())
        )
        segment_ids = number[inverse].reshape(size)
        segments = []
        for segment_id, label in zip(number.tolist(), labels.tolist()):
            if label == NO_LABEL:
                continue
            info = segment_info(segment_id, label, segment_ids == segment_id)
            facts = dict(id=segment_id, category=label, is_thing=label < num_things, score=None)
            facts.update(known.get(segment_id, {}), area=info['area'], bbox=info['bbox'])
            segments.append(facts)
        return cls(segment_ids, segments, classes, num_things)

    def __iter__(self) -> Iterator[dict]:
        """The segments."""
        return iter(self.segments)

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.segments)

    def masks(self) -> np.ndarray:
        """(N, H, W) bool: the visible pixels of each segment."""
        return self.segment_ids == np.array([s['id'] for s in self.segments])[:, None, None]

    def crop(self, segment_id: int, image: np.ndarray) -> np.ndarray:
        """A segment alone: the image (H, W, 3) uint8 in its box, (h, w, 4) with its mask as alpha.

        Raises:
            KeyError: There is no such segment.
        """
        x, y, width, height = self[segment_id]['bbox']
        rows, columns = slice(y, y + height), slice(x, x + width)
        alpha = (self.segment_ids[rows, columns] == segment_id) * np.uint8(255)
        return np.dstack([image[rows, columns], alpha])

    def __getitem__(self, segment_id: int) -> dict:
        """The segment of an id; raises a KeyError if there is none."""
        for segment in self.segments:
            if segment['id'] == segment_id:
                return segment
        raise KeyError(f'no segment {segment_id}; there are {[s["id"] for s in self.segments]}')

    def front_of(self, segment_id: int) -> list[int]:
        """Ids of the segments that lie in front of a thing, of those that overlap it."""
        overlaps = self[segment_id].get('overlaps', ())
        return [o['segment'] for o in overlaps if not o['in_front'] and o['segment'] is not None]

    def summary(self) -> str:
        """One line: how many of each class, the most frequent first."""
        counts = {}
        for segment in self.segments:
            name = self.classes[segment['category']]
            counts[name] = counts.get(name, 0) + 1
        parts = sorted(counts.items(), key=lambda item: -item[1])
        return ', '.join(f'{count} {name}' for name, count in parts) or 'nothing'

    def to_coco(self, image_id: int, file_name: str, categories: list[int] | None = None) -> dict:
        """An annotation of COCO's panoptic format; the PNG is that of :attr:`segment_ids`.

        Args:
            image_id: Of the image.
            file_name: Of the PNG.
            categories: COCO's id of each label; labels by default.
        """
        segments_info = [
            dict(
                id=segment['id'],
                category_id=(
                    segment['category'] if categories is None else categories[segment['category']]
                ),
                area=segment['area'],
                bbox=segment['bbox'],
                iscrowd=0,
            )
            for segment in self.segments
        ]
        return dict(image_id=image_id, file_name=file_name, segments_info=segments_info)

    def to_rle(self) -> list[dict]:
        """Each segment's mask as COCO's compressed RLE, with text as JSON takes it."""
        encoded = coco_mask.encode(np.asfortranarray(self.masks().transpose(1, 2, 0), np.uint8))
        return [dict(rle, counts=rle['counts'].decode()) for rle in encoded]

    def to_supervision(self) -> object:
        """``supervision.Detections``: masks, boxes (x1, y1, x2, y2), classes and scores.

        Raises:
            ImportError: The library is not installed.
        """
        import supervision

        boxes = np.array([s['bbox'] for s in self.segments], dtype=float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [s['category'] for s in self.segments]
        return supervision.Detections(
            xyxy=boxes,
            mask=self.masks(),
            class_id=np.array(labels, dtype=int),
            confidence=np.array([1.0 if s['score'] is None else s['score'] for s in self.segments]),
            data=dict(class_name=np.array([self.classes[label] for label in labels])),
        )

    def to_huggingface(self) -> dict:
        """As transformers' ``post_process_panoptic_segmentation`` returns it."""
        return dict(
            segmentation=self.segment_ids,
            segments_info=[
                dict(id=s['id'], label_id=s['category'], was_fused=False, score=s['score'])
                for s in self.segments
            ],
        )
