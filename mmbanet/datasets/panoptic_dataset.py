"""COCO panoptic data, checked before the first image is read."""

from __future__ import annotations

import logging
import os.path as osp
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoPanopticDataset
from mmdet.datasets.transforms import LoadPanopticAnnotations as MMDetLoadPanopticAnnotations
from mmdet.registry import TRANSFORMS
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmbanet.messages import counted
from mmbanet.registry import DATASETS
from mmbanet.structures import class_color, encode_ids

from .annotation_files import Notices, collector_paused, is_local, read_segment_ids
from .file_check import NamedFile, check_pngs, find_unreadable, raise_first
from .instance_annotations import Instance, InstanceAnnotations
from .load_image import LoadImage
from .load_panoptic_annotations import VOID, LoadPanopticAnnotations
from .panoptic_annotations import PanopticAnnotations
from .placed_samplers import randomness_of


@DATASETS.register_module()
class PanopticDataset(CocoPanopticDataset):
    """mmdet's ``CocoPanopticDataset``, which refuses what would silently train a wrong model.

    * Labels are the positions of the categories' names in the metainfo's ``classes``, things
      before stuff, whatever the order in the file.
    * An image's PNG is the one that its annotation names. Images without annotation are left out,
      unless the file has no annotations at all, as COCO's files of test images.
    * Before the first iteration, ``mmbanet.FileCheckHook`` calls :meth:`check_files`: that all are
      there, begin and end as they must, and have the annotated size. What cannot be read stops, or
      is left out of training with ``ignore_empty`` of :class:`LoadImage`.
    * mmcv's ``LoadImageFromFile`` and mmdet's ``LoadPanopticAnnotations`` in the pipeline become
      :class:`LoadImage` and :class:`LoadPanopticAnnotations`. These compare the sizes before they
      decode, and ids when a PNG is read. A ``bbox`` of None is one that the latter computes.

    * Things, to train on, are those of COCO's instance annotations, whose masks overlap (the tie's
      lies on its person's) as those of panoptic PNGs never do. An instance without a pixel is left
      out; crowds have an ``ignore_flag``.

    Args:
        instances_ann_file: COCO's instance annotations, below ``data_root`` if
            relative. None trains on the masks of the PNGs, with a warning. Not used in
            ``test_mode``.
        Others: as mmdet's ``CocoPanopticDataset``.

    Raises:
        FileNotFoundError: A folder or an annotation file is missing.
        ValueError: An annotation file is not right (:class:`PanopticAnnotations`,
            :class:`InstanceAnnotations`), the two are not of the same images and things, the
            categories are not the metainfo's classes, none of these is a thing, or the filter
            leaves nothing.
    """

    def __init__(
        self,
        *args,
        instances_ann_file: str | None = None,
        pipeline: Sequence[dict | Callable] = (),
        **kwargs,
    ) -> None:
        self.notices = Notices()
        self.instances_ann_file = instances_ann_file
        super().__init__(*args, pipeline=[_ours(step) for step in pipeline], **kwargs)
        if self.test_mode:  # an evaluation without some of its images has other figures
            for step in self.pipeline.transforms:
                if isinstance(step, LoadImage):
                    step.ignore_empty = False

    @classmethod
    def _load_metainfo(cls, metainfo: dict | None = None) -> dict:
        """mmdet's; classes of a config's own have colours of their own, not those of COCO's."""
        loaded = super()._load_metainfo(metainfo)
        if metainfo and 'classes' in metainfo and 'palette' not in metainfo:
            loaded['palette'] = [class_color(number) for number in range(len(loaded['classes']))]
        return loaded

    @collector_paused()
    def full_init(self) -> None:
        """Loads, filters and packs the annotations, unless that is done."""
        super().full_init()

    def load_data_list(self) -> list[dict]:
        """One entry for each image, see :meth:`parse_data_info`."""
        paths = {'annotation file': self.ann_file}
        paths.update({f'{key} folder': path for key, path in self.data_prefix.items() if path})
        for what, path in paths.items():
            if is_local(path, self.backend_args) and not osp.exists(path):
                raise FileNotFoundError(
                    f'{what} not found: {osp.abspath(path)}. Put the data set there, or say where '
                    'it is: data_root in the config, or --data-root of tools/train.py, test.py and '
                    'mmbanet report'
                )
        metainfo = self.metainfo  # each time a copy
        check_classes(metainfo)
        file = PanopticAnnotations(self.ann_file, self.backend_args, self.test_mode)
        self.cat2label = file.labels(metainfo)
        self.cat_ids = sorted(self.cat2label, key=self.cat2label.get)
        self._num_things = len(metainfo['thing_classes'])
        instances = None if self.test_mode else self._load_instances(file)
        chosen = set(file.annotations or file.images)
        return [
            self.parse_data_info(
                dict(
                    raw_img_info=image,
                    # Taken out, to be freed: of COCO there are gigabytes.
                    raw_ann_info=file.annotations.pop(image_id, None),
                    raw_instances=instances.pop(image_id) if instances is not None else None,
                )
            )
            for image_id, image in file.images.items()
            if image_id in chosen
        ]

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """As MMEngine's, but that each entry is freed when it is packed, and packed once."""
        packed, ends = bytearray(), []
        self.data_list.reverse()
        while self.data_list:
            packed += pickle.dumps(self.data_list.pop(), protocol=4)
            ends.append(len(packed))
        return np.frombuffer(packed, dtype=np.uint8), np.array(ends, dtype=np.int64)

    def check_files(self) -> None:
        """Looks at all files that the pipeline reads: at headers, ends and places.

        Raises:
            FileNotFoundError, ValueError: A file cannot be read, and is not to be left out.
        """
        infos = [self.get_data_info(index) for index in range(len(self))]
        files = [
            NamedFile(i['img_path'], (i['height'], i['width']), f'image {i["img_id"]}')
            for i in infos
        ]
        for step in self.pipeline.transforms:
            if isinstance(step, LoadPanopticAnnotations):
                paths = [info['seg_map_path'] for info in infos]
                pngs = [file._replace(path=path) for file, path in zip(files, paths) if path]
                folder = self.data_prefix.get('seg', '')
                check_pngs(pngs, folder, self.ann_file, self.notices, self.backend_args)
            if isinstance(step, LoadImage):
                folder, exif = self.data_prefix['img'], step.applies_exif
                faults = find_unreadable(files, folder, exif, self.notices, self.backend_args)
                if not step.ignore_empty:
                    raise_first(faults, self.ann_file)
                for fault in faults.values():
                    print_log(f'left out: {fault}', logger='current', level=logging.WARNING)
                if len(faults) == len(files):
                    raise ValueError(f'{self.ann_file}: none of its images can be read, see above')

    def _join_prefix(self) -> None:
        """Puts ``data_root`` before relative paths."""
        super()._join_prefix()
        if self.instances_ann_file and self.data_root and not is_abs(self.instances_ann_file):
            self.instances_ann_file = osp.join(self.data_root, self.instances_ann_file)

    def _load_instances(self, panoptic: PanopticAnnotations) -> dict[Any, list[Instance]] | None:
        """Instances by the image's id, if there is a file of them."""
        path = self.instances_ann_file
        if path is None:
            self.notices.say(
                'instances',
                f'{self.ann_file}: without instances_ann_file, instance masks are those of the '
                'panoptic PNGs, which never overlap: the mask of a person has a hole where the tie '
                "is. The paper trains on the masks of COCO's instances_train2017.json, which "
                'overlap; without them occlusion handling has little to decide',
            )
            return None
        if is_local(path, self.backend_args) and not osp.isfile(path):
            raise FileNotFoundError(
                f"instances_ann_file not found: {osp.abspath(path)}. It comes with COCO's "
                'annotations_trainval2017.zip; generated scenes that were made without it are '
                'deleted and made anew by tools/make_scenes.py. instances_ann_file=None trains '
                'without it, on panoptic masks, which never overlap'
            )
        file = InstanceAnnotations(path, self.backend_args)
        file.check_matches(panoptic)
        file.say_hidden()
        return file.instances

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """An image in mmdet's form.

        Args:
            raw_data_info: ``raw_img_info`` and ``raw_ann_info``, the image's entries of ``images``
                and ``annotations``, and ``raw_instances``, its instances. The last two may be None;
                the things of the panoptic annotation are the instances then.
        """
        image, annotation = raw_data_info['raw_img_info'], raw_data_info['raw_ann_info']
        segments, instances = [], []
        for segment in annotation['segments_info'] if annotation else ():
            label = self.cat2label[segment['category_id']]
            # To mmdet, a crowd is no thing.
            is_thing = label < self._num_things and not segment['iscrowd']
            segments.append(dict(id=segment['id'], category=label, is_thing=is_thing))
            if is_thing and raw_data_info['raw_instances'] is None:
                x, y, width, height = segment['bbox'] or (None,) * 4
                box = None if x is None else [x, y, x + width, y + height]
                instances.append(
                    dict(bbox=box, bbox_label=label, ignore_flag=0, segment_id=segment['id'])
                )
        if raw_data_info['raw_instances'] is not None:
            instances = [
                dict(
                    bbox=list(instance.box),
                    bbox_label=self.cat2label[instance.category_id],
                    ignore_flag=int(instance.is_crowd),
                    mask=instance.segmentation,
                )
                for instance in raw_data_info['raw_instances']
                if instance.box
            ]
        seg_map_path = None
        if annotation and self.data_prefix.get('seg'):
            seg_map_path = osp.join(self.data_prefix['seg'], annotation['file_name'])
        info = dict(
            img_path=osp.join(self.data_prefix['img'], image['file_name']),
            img_id=image['id'],
            seg_map_path=seg_map_path,
            height=image['height'],
            width=image['width'],
            instances=instances,
            segments_info=segments,
        )
        if self.return_classes:
            info.update(
                text=self.metainfo['thing_classes'],
                stuff_text=self.metainfo['stuff_classes'],
                custom_entities=True,
            )
        return info

    def filter_data(self) -> list[dict]:
        """The images that ``filter_cfg`` leaves; all of them in ``test_mode``.

        Raises:
            ValueError: None is left, or none of those left has a thing.
        """
        if self.test_mode or self.filter_cfg is None:
            return self.data_list
        min_size = self.filter_cfg.get('min_size', 0)
        large = [i for i in self.data_list if min(i['width'], i['height']) >= min_size]
        kept = [i for i in large if any(not j['ignore_flag'] for j in i['instances'])]
        if not kept:
            raise ValueError(
                f'{self.ann_file}: of {counted(len(self.data_list), "image")} none is left to '
                f'train instances with: {len(self.data_list) - len(large)} with a side of under '
                f'{min_size} pixels (min_size of filter_cfg), {len(large)} with no thing but '
                'crowds. Change filter_cfg, or the isthing of the categories'
            )
        return kept if self.filter_cfg.get('filter_empty_gt', False) else large

    def __getitem__(self, idx: int) -> Any:
        """A sample; its random numbers are its place's, where a :class:`PlacedSampler` chose it."""
        with randomness_of(idx):
            return super().__getitem__(int(idx))


def _ours(step: dict | Callable) -> dict | Callable:
    """The step of a pipeline with the transform of this package for the one that checks less."""
    if not isinstance(step, dict):
        return step
    found = TRANSFORMS.get(step['type']) if isinstance(step['type'], str) else step['type']
    if found is MMDetLoadPanopticAnnotations:
        return dict(step, type=LoadPanopticAnnotations)
    if found is LoadImageFromFile and step.get('file_client_args') is None:
        return dict(step, type=LoadImage)
    return step


def check_classes(metainfo: dict) -> None:
    """Raises a ValueError unless the classes are things and then stuff, with at least one thing."""
    things, stuff = metainfo['thing_classes'], metainfo['stuff_classes']
    if not things:
        raise ValueError(
            'metainfo: thing_classes is empty, but a panoptic model needs at least one thing class '
            'to have instances; train a semantic segmentor of mmseg instead'
        )
    if list(metainfo['classes']) != [*things, *stuff]:
        raise ValueError('metainfo: classes must be thing_classes followed by stuff_classes')
    if len(metainfo['classes']) > VOID:
        raise ValueError(
            f'metainfo: {len(metainfo["classes"])} classes, but the label {VOID} is that of pixels '
            f'without annotation: there may be {VOID} classes'
        )
    if len({*things, *stuff}) != len(metainfo['classes']):
        raise ValueError('metainfo: classes must have a name each, some have the same')


def load_panoptic_map(info: dict) -> np.ndarray:
    """The annotated segments of an image in the encoding of mmdet's panoptic predictions.

    Args:
        info: As of a panoptic data set's ``get_data_info``.

    Returns:
        (H, W) int64, see :func:`encode_ids`; -1 where nothing is annotated.

    Raises: As :func:`read_segment_ids`.
    """
    size = info['height'], info['width']
    ids = read_segment_ids(info['seg_map_path'], size, f'image {info["img_id"]}')
    segments = np.full(ids.shape, -1, dtype=np.int64)
    for number, segment in enumerate(info['segments_info'], start=1):
        instance = number if segment['is_thing'] else 0
        segments[ids == segment['id']] = encode_ids(segment['category'], instance)
    return segments
