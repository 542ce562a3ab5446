"""Images with panoptic maps, of a data set or of what ``mmbanet predict`` wrote, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmbanet.datasets import CocoOrder, PanopticAnnotations
from mmbanet.datasets.annotation_files import read_json, read_segment_ids
from mmbanet.datasets.coco_file import name_image
from mmbanet.datasets.file_check import say_outside
from mmbanet.evaluation.panoptic_truth import PanopticTruth
from mmbanet.scenes.true_depth import TrueDepth, check_depth
from mmbanet.structures import INSTANCE_OFFSET

from .judgement import Judgement, judge

# What ``mmbanet predict`` says of a video's frame.
FRAME = re.compile(r'(?P<video>.*), frame (?P<number>\d+)', re.DOTALL)


class Pair(NamedTuple):
    """Two segments of which one lies in front of the other: their ids, and what decided it."""

    front: int
    behind: int
    why: str


class LabelledImage(NamedTuple):
    """An image with its panoptic map.

    Attributes:
        name: Of the image.
        path: Where the image should be, or the video that it is a frame of.
        ids: (H, W), 0 is void.
        segments: ``id``, ``label`` and ``score`` (None: there is none) of what is in ``ids``.
        pairs: Who is in front of whom; None where nothing is known of it.
        judgement: None where there is no truth.
        frame: Its number in the video.
    """

    name: str
    path: Path
    ids: np.ndarray
    segments: list[dict]
    pairs: list[Pair] | None
    judgement: Judgement | None = None
    frame: int | None = None


class _Annotated:
    """Images by their ids, in the order of the annotations.

    Attributes:
        annotations: With the classes.
        classes: Names in the file's order, which is that of the labels.
        is_thing: Of each class.
        palette: RGB of each class, or None where the file has no colours.
    """

    def __init__(self, annotations: PanopticAnnotations) -> None:
        self.annotations = annotations
        self.classes, self.is_thing, self.palette = _classes_of(annotations)

    def __len__(self) -> int:
        return len(self.annotations.annotations)

    def __iter__(self) -> Iterator[str | int]:
        """Ids of the images."""
        return iter(self.annotations.annotations)


class DataSet(_Annotated):
    """The annotated images of a COCO panoptic data set.

    Who is in front is taken from ``depth_order`` and ``amodal_rle`` where the annotations have
    them (the generated scenes), else from COCO's instance annotations.

    Args:
        ann_file: The JSON file; its PNGs are in the folder of the same name without ``.json``.
        images: Folder of the images; by default that of COCO's layout:
            ``ROOT/val2017`` of ``ROOT/annotations/panoptic_val2017.json``.
        instances: Instance annotations of the same images.

    Attributes:
        name: Of the data set.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: An annotation file is not as it must be.
    """

    def __init__(
        self, ann_file: Path, images: Path | None = None, instances: Path | None = None
    ) -> None:
        self.truth = PanopticTruth(str(ann_file), str(ann_file.with_suffix('')))
        super().__init__(self.truth.annotations)
        split = ann_file.stem.removeprefix('panoptic_')
        self.images = images or ann_file.parent.parent / split
        if not self.images.is_dir():
            raise FileNotFoundError(f'no folder {self.images}: --images says where the images are')
        self.name = str(ann_file)
        self._order = instances and CocoOrder(
            str(ann_file), self.truth.seg_prefix, str(instances), overlap_thr=0
        )
        self._has_depth = any('depth_order' in a for a in self.annotations.annotations.values())
        if self._has_depth:
            check_depth(self.annotations)

    def load(self, image_id: str | int) -> LabelledImage:
        """An image; a FileNotFoundError or ValueError if its PNG is not as it must be."""
        image, annotation = (
            found[image_id] for found in (self.annotations.images, self.annotations.annotations)
        )
        ids, truth = self.truth.load(image_id)
        labels = dict(zip(truth.ids.tolist(), truth.labels.tolist()))
        segments = [
            dict(id=segment['id'], label=labels[segment['id']], score=None)
            for segment in annotation['segments_info']
        ]
        path = self.images / image['file_name']
        say_outside(str(path), str(self.images), self.annotations.notices)
        return labelled(image['file_name'], path, ids, segments, self._pairs(image_id, ids))

    def _pairs(self, image_id: str | int, ids: np.ndarray) -> list[Pair] | None:
        if self._has_depth:
            categories = {c['id']: c['id'] for c in self.annotations.categories if c['isthing']}
            depth = TrueDepth.from_annotation(self.annotations, image_id, categories)
            annotation = self.annotations.annotations[image_id]
            category_of = {s['id']: s['category_id'] for s in annotation['segments_info']}
            things = [i for i in annotation['depth_order'] if category_of[i] in categories]
            pairs = sorted(depth.occluded_pairs(0))
            return [Pair(things[i], things[j], 'depth') for i, j in pairs]
        if self._order is None:
            return None
        ordered = self._order.load(image_id)
        segment_of = {}
        for k in range(len(ordered.masks)):
            own = ids[ordered.owner == k]
            if own.size:
                found, counts = np.unique(own, return_counts=True)
                segment_of[k] = int(found[counts.argmax()])
        return [
            Pair(segment_of[i], segment_of[j], 'panoptic map')
            for i, j in ordered.pairs
            if i in segment_of and j in segment_of
        ]


class Predictions(_Annotated):
    """What ``mmbanet predict`` wrote.

    Args:
        folder: With ``panoptic.json``, ``panoptic`` and ``segments``.
        images: Folder to look for images in; by default they are where they were predicted.
        truth: Panoptic annotations of the same classes and images, the ends of whose paths are the
            annotations' ``file_name``.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: A file is not as it must be, the truth has other classes or other images, or two
            predictions are of one of its images.
    """

    def __init__(self, folder: Path, images: Path | None = None, truth: Path | None = None) -> None:
        if images is not None and not images.is_dir():
            raise FileNotFoundError(f'no folder {images}: --images says where the images are')
        super().__init__(PanopticAnnotations(str(folder / 'panoptic.json')))
        self.folder, self.images, self.name = folder, images, str(folder)
        self.truth = None
        if truth is not None:
            self.truth = PanopticTruth(str(truth), str(truth.with_suffix('')))
            things = [name for name, is_thing in zip(self.classes, self.is_thing) if is_thing]
            self.truth.use_classes(dict(classes=self.classes, thing_classes=things))
            of_truth = self.truth.annotations
            *_, palette = _classes_of(of_truth)
            if palette is not None:
                labels = of_truth.labels(dict(classes=self.classes))
                color_of = {
                    labels[c['id']]: color for c, color in zip(of_truth.categories, palette)
                }
                self.palette = [color_of[label] for label in range(len(self.classes))]
            self._true_ids = {
                image['file_name']: i
                for i, image in of_truth.images.items()
                if i in of_truth.annotations
            }
            self._check_distinct()

    def load(self, image_id: str | int) -> LabelledImage:
        """An image; a FileNotFoundError or ValueError if a file is not as it must be."""
        image, annotation = (
            found[image_id] for found in (self.annotations.images, self.annotations.annotations)
        )
        name = annotation['file_name'].removesuffix('.png')
        record = self.folder / 'segments' / f'{name}.json'
        facts = read_json(str(record), 'record of mmbanet predict')
        try:
            labels = range(len(self.classes))
            segments = [
                dict(
                    id=s['id'],
                    label=labels.index(s['category']),
                    score=None if s['score'] is None else float(s['score']),
                )
                for s in facts['segments']
            ]
            ordered = [s for s in facts['segments'] if 'overlaps' in s]
            pairs = [
                Pair(s['id'], o['segment'], 'through others' if o['set_aside'] else str(o['rule']))
                for s in ordered
                for o in s['overlaps']
                if o['in_front'] and o['segment'] is not None
            ]
            source = str(facts['file'])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{record}: not as mmbanet predict writes it ({error!r}); predict it again'
            ) from None
        png = self.folder / 'panoptic' / annotation['file_name']
        say_outside(str(png), str(self.folder / 'panoptic'), self.annotations.notices)
        size = image['height'], image['width']
        ids = read_segment_ids(str(png), size, name_image(image_id, image))
        things = sum(bool(self.is_thing[s['label']]) for s in segments)
        known = pairs if ordered or things == 0 else None
        judgement = None if self.truth is None else self._judge(source, ids, segments)
        of_video = FRAME.fullmatch(source)
        path = self._find(of_video['video'] if of_video else source)
        return labelled(name, path, ids, segments, known)._replace(
            judgement=judgement, frame=of_video and int(of_video['number'])
        )

    def _find(self, source: str) -> Path:
        for end in _ends(source) if self.images is not None else ():
            if (self.images / end).is_file():
                return self.images / end
        return Path(source)

    def _check_distinct(self) -> None:
        names = {}
        for image in self.annotations.images.values():
            name = image['file_name']
            image_id = self._true_id(name)
            if image_id is not None and names.setdefault(image_id, name) != name:
                raise ValueError(
                    f'{self.folder}: {names[image_id]} and {name} both end as an image of '
                    f'{self.truth.annotations.ann_file}: predict the images of the truth alone'
                )

    def _true_id(self, source: str) -> str | int | None:
        return next((self._true_ids[e] for e in _ends(source) if e in self._true_ids), None)

    def _judge(self, source: str, ids: np.ndarray, segments: list[dict]) -> Judgement | None:
        image_id = self._true_id(source)
        if image_id is None:
            return None
        return judge(self.truth, image_id, source, ids, segments)


def open_labelled(
    path: Path, images: Path | None, truth: Path | None, instances: Path | None
) -> DataSet | Predictions:
    """A data set, of its JSON file or its folder, or the folder of predictions.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: The folder has several data sets, or an argument is of the other kind.
    """
    if (path / 'panoptic.json').is_file():
        if instances is not None:
            raise ValueError('--instances belongs to a data set, predictions have their own order')
        return Predictions(path, images, truth)
    if truth is not None:
        raise ValueError(f'--truth belongs to predictions, but {path} has no panoptic.json of them')
    if path.is_dir():
        found = sorted(path.glob('annotations/panoptic_*.json'))
        if len(found) > 1:
            raise ValueError(f'several data sets, name one: {", ".join(map(str, found))}')
        if not found:
            raise FileNotFoundError(
                f'{path}: neither annotations/panoptic_*.json of a data set nor panoptic.json of '
                'mmbanet predict (which writes it at the end: --resume goes on)'
            )
        path = found[0]
    return DataSet(path, images, instances)


def _classes_of(
    annotations: PanopticAnnotations,
) -> tuple[list[str], list[bool], list[tuple[int, int, int]] | None]:
    """Names, things and colours, in the file's order; a ValueError if there is no room for all."""
    categories = annotations.categories
    if len(categories) >= INSTANCE_OFFSET:
        raise ValueError(
            f'{annotations.ann_file}: {len(categories)} categories, but ids in the encoding of '
            f'mmdet have room for {INSTANCE_OFFSET - 1}; leave out those that are not used'
        )
    return (
        [category['name'] for category in categories],
        [bool(category['isthing']) for category in categories],
        annotations.palette,
    )


def _ends(source: str) -> Iterator[str]:
    """A path, and what is left of it without its first folders, longest first."""
    parts = Path(source).parts
    return ('/'.join(parts[i:]) for i in range(len(parts)))


def labelled(
    name: str, path: Path, ids: np.ndarray, segments: list[dict], pairs: list[Pair] | None
) -> LabelledImage:
    """Without what is listed but not seen."""
    seen = set(np.unique(ids).tolist())
    segments = [segment for segment in segments if segment['id'] in seen]
    if pairs is not None:
        pairs = [pair for pair in pairs if pair.front in seen and pair.behind in seen]
    return LabelledImage(name, path, ids, segments, pairs)
