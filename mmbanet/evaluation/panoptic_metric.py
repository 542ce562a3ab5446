"""PQ, Boundary PQ and mIoU of stuff in one pass, straight from the predicted maps."""

from __future__ import annotations

import math
import os.path as osp
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from mmdet.evaluation.metrics.coco_panoptic_metric import parse_pq_results, print_panoptic_table
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log

from mmbanet.registry import METRICS
from mmbanet.structures.matching import Runs, Segments, find_runs

from .boundary_iou import boundary_iou, boundary_width
from .panoptic_quality import average_quality, count_matches
from .panoptic_truth import PanopticTruth
from .predictions import read_id_map, read_segments, read_semantic
from .semantic_iou import count_class_overlaps, mean_iou


class _Prediction(NamedTuple):
    """Of an image."""

    id_map: np.ndarray
    runs: Runs
    segments: Segments
    semantics: np.ndarray | None


@METRICS.register_module()
class PanopticMetric(BaseMetric):
    """Panoptic quality as of panopticapi and mmdet's ``CocoPanopticMetric``, without its detours.

    Nothing is written, no process is started, the predictions are not modified, and of every image
    only a few numbers are kept.

    Results, in percent: ``PQ``, ``SQ`` and ``RQ``, and with the suffixes ``_th`` and ``_st`` those
    of things and of stuff. As in panopticapi, classes that are neither annotated nor predicted do
    not count. Where no class is left (there panopticapi fails), the result is nan. On request:

    * ``BPQ``, ``BSQ``, ``BRQ`` and so on: Boundary PQ (Cheng et al., CVPR 2021), the same with the
      smaller one of the IoU of two segments and that of their boundaries.
    * ``mIoU_St``: mean IoU of the stuff classes, of the semantic prediction. Of a class, it is
      TP / (TP + FP + FN) over all labelled pixels of all images: things are labelled, void and
      crowd regions are not. A class that is annotated or predicted counts.
    * ``PQ_{class}`` and so on; 0 for a class that is neither annotated nor predicted.

    Args:
        ann_file: COCO's panoptic annotations.
        seg_prefix: Folder of their PNGs.
        classwise: Whether to report every class.
        boundary: Whether to compute Boundary PQ.
        boundary_dilation_ratio: Width of the boundary as a share of the image's diagonal.
        stuff_iou: Whether to compute ``mIoU_St``; the model must predict ``pred_sem_seg``.
        image_counts: Where to write what is counted in each image, an ``.npz`` file: ``img_id``
            (N,), ``counts`` (N, C, 4) of :func:`~mmbanet.evaluation.panoptic_quality.count_matches`
            and ``is_thing`` (C,). Summed over any choice of images they give its PQ.
        backend_args: MMEngine's, to read annotations and PNGs from elsewhere than
            this machine.
        collect_device: MMEngine's.
        prefix: MMEngine's.

    Raises:
        FileNotFoundError: The file or the folder is missing, or that of ``image_counts``.
        ValueError: The file is not as it must be
            (:class:`~mmbanet.datasets.PanopticAnnotations`), or ``boundary_dilation_ratio`` is not
            positive.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str,
        classwise: bool = False,
        boundary: bool = False,
        boundary_dilation_ratio: float = 0.02,
        stuff_iou: bool = False,
        image_counts: str | None = None,
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if not 0 < boundary_dilation_ratio < math.inf:
            raise ValueError(
                f'boundary_dilation_ratio must be positive, got {boundary_dilation_ratio}'
            )
        if image_counts is not None and not osp.isdir(osp.dirname(osp.abspath(image_counts))):
            raise FileNotFoundError(f'no folder for image_counts: {osp.abspath(image_counts)}')
        self.truth = PanopticTruth(ann_file, seg_prefix, backend_args)
        self.classwise = classwise
        self.boundary = boundary
        self.boundary_dilation_ratio = boundary_dilation_ratio
        self.stuff_iou = stuff_iou
        self.image_counts = image_counts

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        """MMEngine's; a ValueError is raised where the classes are not the annotation file's."""
        self.truth.use_classes(dataset_meta)
        self._dataset_meta = dataset_meta

    @property
    def num_classes(self) -> int:
        """Things and stuff."""
        return len(self.truth.classes)

    def check_files(self) -> None:
        """Looks at the PNGs, see :meth:`.PanopticTruth.check_files`."""
        self.truth.check_files()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts the matches of each image.

        Args:
            data_batch: Not used.
            data_samples: With ``img_id`` and ``pred_panoptic_seg``, see
                :func:`~mmbanet.evaluation.predictions.read_segments`; for ``stuff_iou`` also with
                ``pred_sem_seg.sem_seg`` (1, H, W), classes, or the number of classes for none of
                them (such as any thing).

        Raises:
            KeyError: The image is not in the annotation file, or a prediction is missing. An image
                that is listed there without annotation does not count.
            FileNotFoundError: The PNG of the image is missing.
            ValueError: The PNG is not that of the annotation, or a prediction has another size or
                label than the annotations know.
        """
        for sample in data_samples:
            img_id = sample['img_id']
            if not self.truth.is_annotated(img_id):
                self.results.append({})  # MMEngine finds a rank's padding by its place
                continue
            true_map, _ = self.truth.load(img_id)
            try:
                prediction = self._read(sample, true_map)
            except (KeyError, ValueError) as error:
                raise type(error)(f'image {img_id}: {error.args[0]}') from error
            counts = self._count(img_id, true_map, prediction)
            counts = {name: _compress(array) for name, array in counts.items()}
            self.results.append(dict(counts, img_id=img_id))

    def _read(self, sample: dict, true_map: np.ndarray) -> _Prediction:
        size, num_classes = true_map.shape, self.num_classes
        id_map = read_id_map(sample['pred_panoptic_seg'], size)
        runs = find_runs(true_map, id_map)
        segments = read_segments(sample['pred_panoptic_seg'], np.unique(runs.ids), num_classes)
        semantics = None
        if self.stuff_iou:
            if 'pred_sem_seg' not in sample:
                raise KeyError('stuff_iou needs pred_sem_seg, which this model does not predict')
            semantics = read_semantic(sample['pred_sem_seg'], size, num_classes)
        return _Prediction(id_map, runs, segments, semantics)

    def _count(
        self, img_id: int, true_map: np.ndarray, prediction: _Prediction
    ) -> dict[str, np.ndarray]:
        """(C, 4) of PQ and BPQ and (C, 2) of the IoU of classes."""
        id_map, runs, segments, semantics = prediction
        num_classes = self.num_classes
        truth, _, overlaps, iou = self.truth.compare(img_id, true_map, segments, runs)
        counts = dict(PQ=count_matches(truth, segments, overlaps, iou, num_classes))
        if self.boundary:
            width = boundary_width(*true_map.shape, self.boundary_dilation_ratio)
            iou = np.minimum(iou, boundary_iou(truth, true_map, segments, id_map, width))
            counts['BPQ'] = count_matches(truth, segments, overlaps, iou, num_classes)
        if semantics is not None:
            runs = find_runs(true_map, semantics)
            counts['IoU'] = count_class_overlaps(truth, runs, num_classes)
        return counts

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Qualities over all images, see the class."""
        logger = MMLogger.get_current_instance()
        results = [result for result in results if result]
        is_thing = self.truth.is_thing
        groups = dict(All=is_thing | True, Things=is_thing, Stuff=~is_thing)
        scores = {}
        for name in ('PQ', 'BPQ') if self.boundary else ('PQ',):
            counts = _total(results, name, (self.num_classes, 4))
            found = {group: average_quality(counts, of) for group, of in groups.items()}
            averages = {group: average for group, (average, _) in found.items()}
            per_class = None
            if self.classwise:
                per_class = {self.truth.classes[i]: of for i, of in found['All'][1].items()}
            if name == 'BPQ':
                print_log('Boundary PQ:', logger=logger)
            print_panoptic_table(averages, per_class, logger=logger)
            named = parse_pq_results(averages)
            for class_name, quality in (per_class or {}).items():
                named.update({f'{key.upper()}_{class_name}': 100 * quality[key] for key in quality})
            scores.update({name.replace('PQ', '') + key: value for key, value in named.items()})
        if self.stuff_iou:
            scores['mIoU_St'] = 100 * mean_iou(
                _total(results, 'IoU', (self.num_classes, 2)), ~is_thing
            )
        if self.image_counts is not None:
            counts = [_total([result], 'PQ', (self.num_classes, 4)) for result in results]
            img_ids = [result['img_id'] for result in results]
            with open(self.image_counts, 'wb') as file:  # of a path NumPy would make another name
                np.savez_compressed(file, img_id=img_ids, counts=counts, is_thing=is_thing)
        return scores


def _compress(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are not zero, and what they hold."""
    classes = counts.any(axis=1).nonzero()[0]
    return classes, counts[classes]


def _total(results: list[dict], name: str, shape: tuple[int, int]) -> np.ndarray:
    """The sum over images."""
    total = np.zeros(shape)
    for result in results:
        classes, values = result[name]
        total[classes] += values
    return total
