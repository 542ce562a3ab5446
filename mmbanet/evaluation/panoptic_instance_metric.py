"""AP of instance masks on panoptic data, in the same run as panoptic quality."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmbanet.registry import METRICS

from .instance_truth import InstanceTruth
from .panoptic_truth import PanopticTruth
from .predictions import encode_masks


@METRICS.register_module()
class PanopticInstanceMetric(BaseMetric):
    """COCO's AP of the instance masks in ``pred_instances``, by pycocotools or hotcoco.

    mmdet's ``CocoMetric`` needs COCO's instance annotations; here the things of panoptic
    annotations do as well. Of every image the masks are kept, run-length encoded.

    Results, in percent: ``AP_mask``, the mean over IoU thresholds from 0.5 to 0.95, ``AP_mask_50``
    and ``AP_mask_75``, of at most 100 instances of a class and image; nan where no thing is
    annotated.

    Args:
        ann_file: COCO's panoptic annotations; without ``seg_prefix``, COCO's instance
            annotations, whose masks reach below those of other instances.
        seg_prefix: Folder of the PNGs of panoptic annotations.
        library: ``'pycocotools'``, or ``'hotcoco'`` (extra ``hotcoco``), which finds the same
            AP in a fraction of the time.
        backend_args: MMEngine's, to read annotations and PNGs from elsewhere than
            this machine.
        collect_device: MMEngine's.
        prefix: MMEngine's.

    Raises:
        FileNotFoundError: The file or the folder is missing.
        ValueError: The file is not as it must be, or the library is another one.
        ImportError: hotcoco is not installed.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        ann_file: str,
        seg_prefix: str | None = None,
        library: str = 'pycocotools',
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.make_index, self.evaluation_class = _load(library)
        if seg_prefix is None:
            self.truth = InstanceTruth(ann_file, backend_args)
        else:
            self.truth = PanopticTruth(ann_file, seg_prefix, backend_args)

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        """MMEngine's; a ValueError is raised where the classes are not the annotation file's."""
        self.truth.use_classes(dataset_meta)
        self._dataset_meta = dataset_meta

    def check_files(self) -> None:
        """Looks at the PNGs, see :meth:`.PanopticTruth.check_files`."""
        if isinstance(self.truth, PanopticTruth):
            self.truth.check_files()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Encodes the masks of each image.

        Args:
            data_batch: Not used.
            data_samples: With ``img_id`` and ``pred_instances``: ``labels`` (N,),
                ``scores`` (N,), ``masks`` (N, H, W) bool or, as mmdet's ``DumpDetResults`` saves
                them, N run-length encoded ones, and ``mask_scores`` (N,) if the model scores masks
                apart from boxes.

        Raises:
            KeyError: The image is not in the annotation file, or there is no ``pred_instances``.
            FileNotFoundError: The PNG of the image is missing.
            ValueError: The PNG is not that of the annotation, the masks have another size than the
                annotation, or a label is no thing.
        """
        labels = self.truth.thing_labels
        for sample in data_samples:
            if not self.truth.is_annotated(sample['img_id']):
                self.results.append(([], []))  # MMEngine finds a rank's padding by its place
                continue
            image = f'image {sample["img_id"]}'
            if 'pred_instances' not in sample:
                raise KeyError(f'{image}: AP_mask needs pred_instances, which the model lacks')
            truth = self.truth.instances(sample['img_id'])
            found = _encode(sample['pred_instances'])
            unknown = sorted({item['category_id'] for item in found} - set(labels))
            if unknown:
                raise ValueError(
                    f'{image}: pred_instances has labels that are no things: {unknown}'
                )
            sizes = [{tuple(i['segmentation']['size']) for i in part} for part in (truth, found)]
            if all(sizes) and sizes[0] != sizes[1]:
                raise ValueError(
                    f'{image}: masks must have the size of the annotation {sizes[0]}, '
                    f'got {sizes[1]}'
                )
            self.results.append((truth, found))

    def compute_metrics(self, results: list[tuple[list[dict], list[dict]]]) -> dict[str, float]:
        """AP over all images, see the class."""
        labels = self.truth.thing_labels
        truth, found = zip(*results) if results else ((), ())
        with contextlib.redirect_stdout(io.StringIO()):
            indices = [self.make_index(_as_coco(part, labels)) for part in (truth, found)]
            evaluation = self.evaluation_class(*indices, 'segm')
            evaluation.params.areaRng = evaluation.params.areaRng[:1]  # no AP by size
            evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
            evaluation.params.maxDets = evaluation.params.maxDets[-1:]
            if results:
                evaluation.evaluate()
                evaluation.accumulate()
        thresholds = np.array(evaluation.params.iouThrs)
        # By threshold first; -1 for classes without annotated instances.
        unknown = np.full((len(thresholds), 1), -1.0)
        precision = (evaluation.eval or {}).get('precision', unknown)

        def average(chosen: np.ndarray) -> float:
            values = precision[chosen]
            return 100 * float(values[values > -1].mean()) if (values > -1).any() else float('nan')

        return dict(
            AP_mask=average(thresholds > 0),
            AP_mask_50=average(np.isclose(thresholds, 0.5)),
            AP_mask_75=average(np.isclose(thresholds, 0.75)),
        )


def _encode(instances: dict) -> list[dict]:
    """Detections as pycocotools wants them, with the label as ``category_id``."""
    if len(instances['labels']) == 0:
        return []  # mmdet gives no masks any size
    masks = encode_masks(instances['masks'])
    scores = instances.get('mask_scores', instances['scores']).tolist()
    return [
        dict(category_id=label, segmentation=mask, score=score, iscrowd=0)
        for label, mask, score in zip(instances['labels'].tolist(), masks, scores)
    ]


def _as_coco(annotations: Sequence[list[dict]], labels: list[int]) -> dict:
    """The annotations of images, which are numbered in their order, as COCO's format has them."""
    pairs = [(image, item) for image, part in enumerate(annotations) for item in part]
    return dict(
        # The masks bring their size along; the libraries only look for one here.
        images=[dict(id=image, height=0, width=0) for image in range(len(annotations))],
        categories=[dict(id=label, name=str(label)) for label in labels],
        # From 1 on: 0 stands for no match. Areas are asked for, though AP is not by size.
        annotations=[
            dict(item, id=i, image_id=image, area=0) for i, (image, item) in enumerate(pairs, 1)
        ],
    )


def _load(library: str) -> tuple[Callable[[dict], Any], type]:
    """What indexes annotations in COCO's format, and the class that evaluates two indices."""
    if library == 'pycocotools':
        return _index, COCOeval
    if library != 'hotcoco':
        raise ValueError(f"library must be 'pycocotools' or 'hotcoco', got {library!r}")
    try:
        import hotcoco
    except ImportError as error:
        raise ImportError(
            "library='hotcoco' needs the package hotcoco: pip install hotcoco, or take "
            "library='pycocotools'"
        ) from error
    return hotcoco.COCO, hotcoco.COCOeval


def _index(dataset: dict) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco
