"""A metric of occlusion handling itself, on data that say who is in front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from mmbanet.datasets import CocoOrder
from mmbanet.datasets.image_files import check_loaded_size, read_image
from mmbanet.registry import METRICS
from mmbanet.scenes.true_depth import KINDS, TrueDepth, check_depth
from mmbanet.structures import OcclusionGraph

from .panoptic_truth import open_annotations
from .predictions import decode_masks


@METRICS.register_module()
class OcclusionMetric(BaseMetric):
    """The share of truly occluded pairs of instances that fusion ordered rightly.

    Every two fused instances whose masks overlap by more than ``occlusion_thr`` of either are a
    pair that fusion must decide. Both are matched to annotated things (:meth:`TrueDepth.match`).
    The pair is *truly occluded* if the things' full masks overlap by more than ``occlusion_thr`` of
    either, too, and if that is what the predicted overlap shows: more than half of its pixels
    belong to both full masks. Other overlaps come from masks that leak into their neighbours: who
    is in front does not say whose their pixels are. The pair is ordered rightly if fusion's final
    order has the same one in front as the annotation.

    Results, in percent, nan where there are no pairs:

    * ``accuracy``: truly occluded pairs ordered rightly, and ``accuracy_same_class``,
      ``accuracy_small_on_large`` (the front has less than a quarter of the other's area) and
      ``accuracy_alike`` (cosine of the mean RGB above 0.97), of the pairs of a kind.
    * ``accuracy_any_overlap``: of all pairs with both instances matched to things that overlap at
      all.
    * ``recall``: of all pairs of annotated things whose full masks overlap by more than
      ``occlusion_thr`` of either, those behind ``accuracy``: both were detected, and their
      predicted masks, too, overlap by more than ``occlusion_thr`` of either, and mostly where the
      full masks do.
    * ``pairs``, ``pairs_same_class`` and so on: the numbers behind them.

    With ``instances_ann_file``, COCO itself is the truth: the instance masks stand for the full
    masks, and the panoptic map says who is in front (:class:`~mmbanet.datasets.CocoOrder`). Pairs
    of which it does not clearly say so are left out, of the ``recall``, too.

    Args:
        ann_file: COCO's panoptic annotations; without ``instances_ann_file`` with ``depth_order``
            and ``amodal_rle``, as in the generated scenes.
        occlusion_thr: As for fusion.
        instances_ann_file: COCO's instance annotations of the same images.
        seg_prefix: Folder of the panoptic PNGs, with ``instances_ann_file``.
        color_type: The pipeline's, which decides whether an image is turned as its EXIF data say.
        backend_args: MMEngine's, to read annotations from elsewhere than this
            machine.
        collect_device: MMEngine's.
        prefix: MMEngine's.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: One is not as it must be, or says nothing of depth; only one of
            ``instances_ann_file`` and ``seg_prefix`` is given.
    """

    default_prefix = 'occlusion'

    def __init__(
        self,
        ann_file: str,
        occlusion_thr: float = 0.2,
        instances_ann_file: str | None = None,
        seg_prefix: str | None = None,
        color_type: str = 'color',
        backend_args: dict | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if (instances_ann_file is None) != (seg_prefix is None):
            raise ValueError(
                'instances_ann_file and seg_prefix must be given together, for the order of COCO '
                f'itself, got {instances_ann_file!r} and {seg_prefix!r}'
            )
        self.coco = None
        if instances_ann_file is None:
            self.annotations = open_annotations(ann_file, backend_args)
            check_depth(self.annotations)
        else:
            # Of pairs that overlap by less, accuracy_any_overlap tells.
            self.coco = CocoOrder(ann_file, seg_prefix, instances_ann_file, 0.0, backend_args)
            self.annotations = self.coco.panoptic
        self.occlusion_thr = occlusion_thr
        self.color_type = color_type
        self.dataset_meta = None

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        """MMEngine's; a ValueError is raised where the classes are not the annotation file's."""
        labels = self.annotations.labels(dataset_meta)
        things = [c['id'] for c in self.annotations.categories if c['isthing']]
        self.thing_labels = {category: labels[category] for category in things}
        self._dataset_meta = dataset_meta

    def check_files(self) -> None:
        """Looks at the PNGs, where there are any."""
        if self.coco is not None:
            self.coco.check_files()

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Judges the pairs of each image.

        Args:
            data_batch: Not used.
            data_samples: With ``img_id``, ``img_path``, ``pred_instances`` and
                ``pred_panoptic_seg``.

        Raises:
            KeyError: The image is not in the annotation file.
            ValueError: A full mask is not one of the image, or masks or the image have another size
                than the annotation.
            TypeError: The predictions come without an :class:`OcclusionGraph`.
        """
        for sample in data_samples:
            if not self.annotations.is_annotated(sample['img_id']):
                # MMEngine finds a rank's padding by its place.
                self.results.append(dict(occluded=0, judged=[]))
                continue
            graph = sample['pred_panoptic_seg'].get('occlusion')
            if graph is None:
                raise TypeError(
                    'pred_panoptic_seg has no occlusion graph: the model needs the fusion head '
                    'mmbanet.OcclusionAwareFusionHead (any order)'
                )
            truth, order = self._truth(sample['img_id'])
            chosen = sample['pred_panoptic_seg']['detections']
            instances = sample['pred_instances']
            masks = decode_masks(instances['masks'], chosen)
            labels = instances['labels'][chosen.to(instances['labels'].device)].cpu().numpy()
            graph = OcclusionGraph(*graph)  # a plain tuple where DumpDetResults has saved it
            size = truth.amodal.shape[1:]
            if len(masks) > 0 and masks.shape[1:] != size:
                raise ValueError(
                    f'image {sample["img_id"]}: masks must have the size of the annotation {size}, '
                    f'got {masks.shape[1:]}'
                )
            self.results.append(self._judge(graph, masks, labels, truth, order, sample['img_path']))

    def _truth(self, img_id: int) -> tuple[TrueDepth, np.ndarray]:
        """The things of an image, and (G, G) int8 who is in front of whom, as far as known."""
        if self.coco is None:
            truth = TrueDepth.from_annotation(self.annotations, img_id, self.thing_labels)
            ahead = np.triu(np.ones((len(truth.labels),) * 2, dtype=np.int8), k=1)
            return truth, ahead - ahead.T
        things = self.coco.load(img_id)
        labels = [self.thing_labels[category] for category in things.categories.tolist()]
        visible = things.owner == np.arange(len(labels))[:, None, None]
        return TrueDepth(np.array(labels, dtype=np.int64), things.masks, visible), things.order

    def _judge(
        self,
        graph: OcclusionGraph,
        masks: np.ndarray,
        labels: np.ndarray,
        truth: TrueDepth,
        order: np.ndarray,
        img_path: str,
    ) -> dict:
        """One image: its number of truly occluded pairs and (right, kinds) of the pairs judged.

        The kinds are None for a pair that is not truly occluded.
        """
        matches = truth.match(masks, labels)
        occluded = {
            (i, j) if order[i, j] > 0 else (j, i)
            for i, j in truth.occluded_pairs(self.occlusion_thr)
            if order[i, j]
        }
        colours, judged = None, []
        for (i, j), share in zip(graph.pairs.tolist(), graph.share.tolist()):
            if share <= self.occlusion_thr or i not in matches or j not in matches:
                continue
            if order[matches[i], matches[j]] < 0:
                i, j = j, i
            front, behind = matches[i], matches[j]
            true_overlap = truth.amodal[front] & truth.amodal[behind]
            if not order[front, behind] or not true_overlap.any():
                continue
            overlap = masks[i] & masks[j]
            kinds = None
            if (front, behind) in occluded and 2 * (overlap & true_overlap).sum() > overlap.sum():
                if colours is None:
                    image = read_image(img_path, self.color_type)
                    size = truth.amodal.shape[1:]
                    setting = f'color_type={self.color_type!r} of OcclusionMetric'
                    check_loaded_size(img_path, image.shape[:2], size, setting)
                    colours = truth.mean_colours(image[..., ::-1])
                kinds = truth.kinds(front, behind, colours)
            judged.append((bool(graph.in_front[i, j]), kinds))
        return dict(occluded=len(occluded), judged=judged)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Shares over all images, see the class."""
        judged = [pair for result in results for pair in result['judged']]
        truly = [(right, kinds) for right, kinds in judged if kinds is not None]
        scores = {}

        def add(suffix: str, rights: list[bool]) -> None:
            scores[f'accuracy{suffix}'] = _percent(sum(rights), len(rights))
            scores[f'pairs{suffix}'] = len(rights)

        add('', [right for right, _ in truly])
        for kind in KINDS:
            add(f'_{kind}', [right for right, kinds in truly if kind in kinds])
        add('_any_overlap', [right for right, _ in judged])
        scores['recall'] = _percent(len(truly), sum(result['occluded'] for result in results))
        return scores


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else float('nan')
