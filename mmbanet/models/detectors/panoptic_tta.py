"""Test-time augmentation: several views of an image, averaged before fusion.

What mmdet 2 did for Mask R-CNN (``merge_augs.py``), and semantic logits: the proposals of all views
are looked at in each, class scores and boxes are averaged and go through NMS once, then masks (in
their boxes) and logits are averaged, and fusion happens once.

Shapes: V views, N images, K proposals or boxes, C channels, H x W pixels of the original image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import MaskScoringRoIHead
from mmdet.structures import DetDataSample, SampleList
from mmdet.structures.bbox import bbox2roi, bbox_flip
from mmdet.utils import InstanceList
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbanet.registry import MODELS

from ..replaced import replaced
from ..semantic.logits import resize_logits
from .banet import BANet, boxes_in_input
from .checks import asks_for, last_stage
from .img_metas import without_padding

FLIPS = dict(horizontal=(-1,), vertical=(-2,), diagonal=(-2, -1))


class _View(NamedTuple):
    """What the network makes of one view of each of N images."""

    inputs: Tensor
    samples: SampleList
    metas: list[dict]
    semantic: dict
    roi_inputs: Sequence[Tensor]
    proposals: InstanceList

    @property
    def flip(self) -> str | None:
        """The direction; all images of a view have the same."""
        return self.metas[0].get('flip_direction') if self.metas[0].get('flip') else None


@MODELS.register_module()
class PanopticTTAModel(BaseTTAModel):
    """Looks at flipped and resized views of each image; for ``mmbanet.BANet``.

    As mmdet's ``DetTTAModel``, for ``tta_model`` of a config and ``tools/test.py --tta``; the views
    are those of ``TestTimeAug`` in ``tta_pipeline``, whose ``PackDetInputs`` must have ``flip`` and
    ``flip_direction`` among its ``meta_keys``. Views that are all the same give what the model
    predicts without. A PanopticFPN of mmdet's is a BANet with nothing in it, see there.

    Args:
        module: The model, or its config.
        data_preprocessor: For a model that has none.

    Raises:
        TypeError: The model is another one, or has a fusion, semantic or RoI head that looks into
            the mask branch: it would have to be averaged in a way of its own.
    """

    def __init__(self, module: dict | nn.Module, data_preprocessor: dict | None = None) -> None:
        super().__init__(module, data_preprocessor)
        model = self.module
        if not isinstance(model, BANet):
            raise TypeError(
                'module: test-time augmentation is for mmbanet.BANet (which loads checkpoints of '
                f"mmdet's PanopticFPN), got {type(model).__name__}"
            )
        head = model.panoptic_fusion_head
        if model.with_attention or asks_for(head, 'mask_logits', 'roi_features'):
            looks = model.semantic_head if model.with_attention else head
            raise TypeError(
                f'module: {type(looks).__name__} looks into the mask branch, of which '
                'test-time augmentation knows no mean'
            )
        if isinstance(model.roi_head, MaskScoringRoIHead):
            raise TypeError(
                f'module: {type(model.roi_head).__name__} scores detections by their masks, of '
                'which test-time augmentation knows no mean; use StandardRoIHead'
            )

    @torch.no_grad()
    def test_step(self, data: dict[str, list]) -> SampleList:
        """The samples of the N images with predictions of the original size.

        Args:
            data: ``inputs`` and ``data_samples``, lists of V lists of N.

        Raises:
            ValueError: The views do not say whether they are flipped, or all are.
        """
        batches = [dict(zip(data, view)) for view in zip(*data.values())]
        views = [self._look(self.module.data_preprocessor(batch, False)) for batch in batches]
        if any('flip' not in meta for view in views for meta in view.metas) and len(views) > 1:
            raise ValueError(
                'tta_pipeline: meta_keys of PackDetInputs must have flip and flip_direction, or '
                'nobody knows which views are flipped'
            )
        reference = next((view for view in views if view.flip is None), None)
        if reference is None:
            raise ValueError('tta_pipeline: one view of the image must not be flipped')
        return self._merge(views, reference)

    def merge_preds(self, data_samples_list: list[SampleList]) -> SampleList:
        """Is not asked: predictions are averaged on their way."""
        raise NotImplementedError('PanopticTTAModel merges in test_step')

    def _look(self, batch: dict) -> _View:
        model = self.module
        samples = [without_padding(sample) for sample in batch['data_samples']]
        metas = [sample.metainfo for sample in samples]
        pyramid = model.extract_feat(batch['inputs'])
        semantic = model._semantic_outputs(pyramid)
        roi_inputs = model._roi_inputs(pyramid, semantic)
        proposals = model._proposals(pyramid, samples)
        return _View(batch['inputs'], batch['data_samples'], metas, semantic, roi_inputs, proposals)

    def _merge(self, views: Sequence[_View], reference: _View) -> SampleList:
        """Boxes in between are in pixels of the reference's input."""
        model = self.module
        detections = self._boxes(views, reference)
        detections = self._masks(views, reference, detections)
        selection = model._select_for_fusion(detections)
        boxes = [item.bboxes[chosen] for item, chosen in zip(detections, selection)]
        boxes = boxes_in_input(boxes, reference.metas, rescaled=True)
        logits = [self._logits(view, reference, boxes) for view in views]

        images = model._images_for_fusion(reference.inputs, reference.metas, rescale=True)
        merged = []
        for n, (sample, meta) in enumerate(zip(reference.samples, reference.metas)):
            of_image = [
                (view_logits[n : n + 1], view.metas[n]) for view_logits, view in zip(logits, views)
            ]
            mean, meta = _mean_logits(of_image, meta)
            image = None if images is None else [images[n]]
            panoptic = model._fuse([sample], [detections[n]], mean, [meta], True, image, ())
            merged += model.add_pred_to_datasample([sample], panoptic)
        return merged

    def _boxes(self, views: Sequence[_View], reference: _View) -> InstanceList:
        """Detections of N images: ``bboxes`` (K, 4), ``scores`` and ``labels``."""
        model, cfg = self.module, self.module.test_cfg.rcnn
        most = model.test_cfg.rpn.max_per_img
        proposals = []
        for n, meta in enumerate(reference.metas):
            found = [view.proposals[n] for view in views]
            boxes = [_moved(p.bboxes, v.metas[n], meta) for p, v in zip(found, views)]
            scores = torch.cat([p.scores for p in found])
            proposals.append(_distinct(torch.cat(boxes), scores)[:most])

        boxes, scores = [], []
        for view in views:
            of_view = _in_view(proposals, reference, view)
            raw = self._raw_boxes(view, [InstanceData(bboxes=item) for item in of_view])
            metas = zip(view.metas, reference.metas)
            boxes.append([_moved(r.bboxes, *pair) for r, pair in zip(raw, metas)])
            scores.append([r.scores for r in raw])
        detections = []
        for of_boxes, of_scores in zip(zip(*boxes), zip(*scores)):
            kept, labels = multiclass_nms(
                _mean(of_boxes), _mean(of_scores), cfg.score_thr, cfg.nms, cfg.max_per_img
            )
            detections.append(InstanceData(bboxes=kept[:, :-1], scores=kept[:, -1], labels=labels))
        return detections

    def _raw_boxes(self, view: _View, proposals: InstanceList) -> InstanceList:
        """Boxes of proposals with all class scores."""
        roi_head = self.module.roi_head
        predict, found = roi_head.predict_bbox, []

        def record(*args, **settings) -> None:
            # Without a test_cfg, RoI heads give every box all class scores, and do no NMS.
            found.extend(predict(*args, **dict(settings, rcnn_test_cfg=None)))

        # As a whole: only the head itself knows what it looks at beside the pyramid.
        with replaced(roi_head, predict_bbox=record, predict_mask=lambda *_, **__: None):
            roi_head.predict(view.roi_inputs, proposals, _turned_samples(view))
        return found

    def _masks(
        self, views: Sequence[_View], reference: _View, detections: InstanceList
    ) -> InstanceList:
        """The detections with ``masks`` (K, H, W), and all in pixels of the original images."""
        model = self.module
        head = last_stage(model.roi_head.mask_head)
        shares = [self._mask_shares(view, reference, detections) for view in views]
        means = [_mean(of_image).cpu().numpy() for of_image in zip(*shares)]
        return head.predict_by_feat(
            means,
            detections,
            reference.metas,
            model.test_cfg.rcnn,
            rescale=True,
            activate_map=True,
        )

    def _mask_shares(self, view: _View, reference: _View, detections: InstanceList) -> list[Tensor]:
        """What a view says of each detection's pixels: (K, C, m, m) in 0..1, in its box."""
        head = last_stage(self.module.roi_head.mask_head)
        found = []

        def record(mask_preds, results_list, *_, activate_map=False, **__) -> InstanceList:
            found.extend(m if activate_map else m.sigmoid() for m in mask_preds)
            return results_list

        boxes = _in_view([item.bboxes for item in detections], reference, view)
        given = [
            InstanceData(bboxes=of_view, labels=item.labels, scores=item.scores)
            for of_view, item in zip(boxes, detections)
        ]
        roi_head = self.module.roi_head
        boxes_as_given = replaced(roi_head, predict_bbox=lambda *_, **__: given)
        with boxes_as_given, replaced(head, predict_by_feat=record):  # which would paste them
            roi_head.predict(view.roi_inputs, given, _turned_samples(view))
        if not found:  # no boxes: the mask head was not asked
            return [item.bboxes.new_zeros((0, 1, 1, 1)) for item in detections]
        return [_unflipped(item, view.flip) for item in found]

    def _logits(self, view: _View, reference: _View, boxes: list[Tensor]) -> Tensor:
        """Semantic logits (N, C, h, w) of the view's input; I2S inlays the boxes."""
        if not self.module.with_i2s:
            return view.semantic['seg_preds']
        rois = bbox2roi(_in_view(boxes, reference, view))
        instances = self.module._instance_features(view.roi_inputs, rois)
        return self.module._i2s_logits(view.semantic, instances, rois, view.metas)


def _turned_samples(view: _View) -> SampleList:
    """Samples of which RoI heads do not turn back what they predict: cascades fail at it."""
    return [DetDataSample(metainfo=dict(meta, flip=False)) for meta in view.metas]


def _mean_logits(views: Sequence[tuple[Tensor, dict]], meta: dict) -> tuple[Tensor, dict]:
    """The mean of logits (1, C, h, w) of views with the meta information that belongs to it.

    Where all have the input's geometry in common, that stays as it is: they need not be resized.
    """
    keys = 'batch_input_shape', 'img_shape', 'flip'
    if len({tuple(of_view.get(key) for key in keys) for _, of_view in views}) == 1:
        return _mean([logits for logits, _ in views]), meta
    total = 0
    for logits, of_view in views:
        flip = of_view['flip_direction'] if of_view['flip'] else None
        total = total + _unflipped(resize_logits(logits, [of_view], rescale=True)[0], flip)
    size = meta['ori_shape'][:2]
    return total[None] / len(views), dict(meta, batch_input_shape=size, img_shape=size)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)


def _unflipped(values: Tensor, flip: str | None) -> Tensor:
    """The last two axes of a tensor turned back."""
    return values if flip is None else values.flip(FLIPS[flip])


def _in_view(boxes: Sequence[Tensor], reference: _View, view: _View) -> list[Tensor]:
    """Boxes of N images, in pixels of the reference's input, in those of the view's."""
    metas = zip(reference.metas, view.metas)
    return [_moved(item, *pair) for item, pair in zip(boxes, metas)]


def _moved(boxes: Tensor, source: dict, target: dict) -> Tensor:
    """Boxes (K, 4 n) of one view in pixels of another's input."""
    if source.get('flip'):
        boxes = bbox_flip(boxes, source['img_shape'], source['flip_direction'])
    scale = [t / s for s, t in zip(source['scale_factor'], target['scale_factor'])]
    if scale != [1, 1]:
        boxes = boxes * boxes.new_tensor(scale).repeat(boxes.shape[-1] // 2)
    if target.get('flip'):
        boxes = bbox_flip(boxes, target['img_shape'], target['flip_direction'])
    return boxes


def _distinct(boxes: Tensor, scores: Tensor) -> Tensor:
    """Boxes (K, 4) in descending order of score, without those that are there already."""
    boxes = boxes[scores.argsort(descending=True, stable=True)]
    _, group = boxes.unique(dim=0, return_inverse=True)
    place = torch.arange(len(boxes), device=boxes.device)
    first = place.new_full((len(boxes),), len(boxes)).scatter_reduce(0, group, place, 'amin')
    return boxes[first[group] == place]
