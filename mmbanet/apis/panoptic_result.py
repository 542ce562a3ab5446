"""What a panoptic model says of an image, in the forms that other programs read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from pycocotools import mask as coco_mask

from mmbanet.datasets.panoptic_files import segment_info
from mmbanet.evaluation.predictions import read_id_map, read_segments
from mmbanet.structures import encode_ids, index_segments
from mmbanet.structures.matching import NO_LABEL
from mmbanet.visualization.panoptic import class_palette, colorize
from mmbanet.visualization.picture import draw_panoptic


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
        image: (H, W, 3) uint8 BGR, or None where the result was made without it.
    """

    segment_ids: np.ndarray
    segments: list[dict]
    classes: tuple[str, ...]
    num_things: int
    image: np.ndarray | None = None

    @classmethod
    def from_sample(
        cls, sample: DetDataSample, dataset_meta: dict, image: np.ndarray | None = None
    ) -> PanopticResult:
        """Of the prediction of any of mmdet's panoptic models.

        Args:
            sample: With ``pred_panoptic_seg``.
            dataset_meta: With ``classes`` and ``thing_classes``, as a model of
                :func:`mmbanet.apis.init_model` has it.
            image: (H, W, 3) uint8 BGR; where it has another size than what was predicted, the map
                is resized to it. A segment of which nothing is left then has no pixels: it is not
                listed, and None where others name it.

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
        ids, places = index_segments(given)
        labels = read_segments(prediction, ids, len(classes)).labels
        number = np.zeros(len(ids), dtype=np.int32)
        number[labels != NO_LABEL] = (
            ids[labels != NO_LABEL] if known else 1 + np.arange((labels != NO_LABEL).sum())
        )
        segment_ids = number[places]
        if image is not None and image.shape[:2] != size:
            segment_ids = cv2.resize(
                segment_ids, image.shape[1::-1], interpolation=cv2.INTER_NEAREST
            )
        visible, segments = set(index_segments(segment_ids)[0].tolist()), []
        for segment_id, label in zip(number.tolist(), labels.tolist()):
            if label == NO_LABEL or segment_id not in visible:
                continue
            info = segment_info(segment_id, label, segment_ids == segment_id)
            facts = dict(id=segment_id, category=label, is_thing=label < num_things, score=None)
            facts.update(known.get(segment_id, {}), area=info['area'], bbox=info['bbox'])
            if 'overlaps' in facts:
                facts['overlaps'] = [
                    dict(o, segment=o['segment'] if o['segment'] in visible else None)
                    for o in facts['overlaps']
                ]
            segments.append(facts)
        return cls(segment_ids, segments, classes, num_things, image)

    def __iter__(self) -> Iterator[dict]:
        """The segments."""
        return iter(self.segments)

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.segments)

    def masks(self) -> np.ndarray:
        """(N, H, W) bool: the visible pixels of each segment."""
        return self.segment_ids == np.array([s['id'] for s in self.segments])[:, None, None]

    def crop(self, segment: int | dict, image: np.ndarray | None = None) -> np.ndarray:
        """A segment alone: the image in its box, (h, w, 4) uint8 BGR with its mask as alpha.

        Args:
            segment: One of ``segments``, or its id.
            image: (H, W, 3) uint8 BGR; the result's own by default.

        Raises:
            KeyError: There is no such segment.
            ValueError: No image of the map's size.
        """
        image = self.image if image is None else image
        if image is None or image.shape[:2] != self.segment_ids.shape:
            raise ValueError(
                f"image must be of the map's size {self.segment_ids.shape}, got "
                f'{None if image is None else image.shape}'
            )
        found = self[segment]
        x, y, width, height = found['bbox']
        rows, columns = slice(y, y + height), slice(x, x + width)
        alpha = (self.segment_ids[rows, columns] == found['id']) * np.uint8(255)
        return np.dstack([image[rows, columns], alpha])

    def __getitem__(self, segment: int | dict) -> dict:
        """The segment of an id (or the one that is given); raises a KeyError if there is none."""
        segment_id = segment['id'] if isinstance(segment, dict) else segment
        for found in self.segments:
            if found['id'] == segment_id:
                return found
        raise KeyError(f'no segment {segment_id}; there are {[s["id"] for s in self.segments]}')

    def front_of(self, segment: int | dict) -> list[int]:
        """Ids of the segments in front of a thing (or its id), of those that overlap it."""
        overlaps = self[segment].get('overlaps', ())
        return [o['segment'] for o in overlaps if not o['in_front'] and o['segment'] is not None]

    def mmdet_ids(self, size: Sequence[int]) -> np.ndarray:
        """The map in mmdet's encoding, (height, width), enlarged or reduced by nearest neighbours.

        Args:
            size: Width and height in pixels.
        """
        segment_ids = cv2.resize(self.segment_ids, size, interpolation=cv2.INTER_NEAREST)
        ids = np.full(max((s['id'] for s in self), default=0) + 1, len(self.classes))
        for s in self:
            ids[s['id']] = encode_ids(s['category'], s['id'] if s['is_thing'] else 0)
        return ids[segment_ids]

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

        Its layout as of supervision 0.31, whose own readers make the same of :meth:`to_huggingface`
        but for boxes that end at their last pixel, which is its older convention; these end after
        it. A score that the model does not give is 1.

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
            data=dict(class_name=np.array([self.classes[label] for label in labels], dtype=str)),
        )

    def to_huggingface(self) -> dict:
        """As transformers' ``post_process_panoptic_segmentation`` returns it (transformers 5.24).

        Stuff is fused: one segment a class. A score that the model does not give is 1. Void is 0,
        where nothing was found as well (there, transformers has -1.0).
        """
        return dict(
            segmentation=torch.from_numpy(self.segment_ids.copy()),
            segments_info=[
                dict(
                    id=s['id'],
                    label_id=s['category'],
                    was_fused=not s['is_thing'],
                    score=1.0 if s['score'] is None else float(s['score']),
                )
                for s in self.segments
            ],
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the map (over the image), at most 1,024 pixels long."""
        scale = min(1, 1024 / max(self.segment_ids.shape))
        size = [max(1, round(side * scale)) for side in self.segment_ids.shape[::-1]]
        panoptic, palette = self.mmdet_ids(size), class_palette(dict(classes=self.classes))
        if self.image is None:
            picture = colorize(panoptic, palette)
        else:
            image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)[..., ::-1]
            picture = draw_panoptic(image, panoptic, self.classes, palette, legend=False)
        return cv2.imencode('.png', picture[..., ::-1])[1].tobytes()
