"""A panoptic model with ground truth in place of intermediate results (section 4.5, table 4).

Shapes: N images, K detections.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig, PixelList
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbanet.registry import MODELS

from ..fusion import FusionHead, OcclusionAwareFusionHead
from ..fusion.checks import check_threshold
from ..replaced import replaced
from ..semantic.logits import layout_of
from .ground_truth import IGNORED, GroundTruth
from .matching import match_boxes, true_preference

ORACLES = ('boxes', 'classes', 'occlusion', 'semantics')
PREFIX = 'model.'


@MODELS.register_module()
class OracleModel(BaseDetector):
    """For inference only. It loads the checkpoints of the model in it, as they are.

    The paper says what is replaced; what it leaves open is decided here:

    * ``'boxes'``: the annotated boxes are the detections, all of them and nothing else: there is no
      threshold of scores and no suppression. The box head gives each its most probable thing class
      and that probability as its score; a cascade refines the boxes only to classify them.
    * ``'classes'``: a detection that stands for a thing (see below) has its class. Scores stay.
    * ``'occlusion'``: of two detections that stand for things, the one whose thing owns more of the
      pixels that both masks claim is in front (:func:`true_preference`). As in the paper, all other
      pairs are left to the fusion head's rule, as are the order of pairs and the removal of objects
      that lose too much. Needs the :class:`~mmbanet.models.OcclusionAwareFusionHead`.
    * ``'semantics'``: fusion sees the annotated label map, in which thing pixels are things and
      unlabelled pixels void. Instances are laid over it as ever. Not with fusion heads that weigh
      logits.

    A detection stands for the thing whose box has the largest IoU with its own, if that is above
    ``matching_iou`` (:func:`match_boxes`); with ``'boxes'`` each stands for its own thing. Crowds
    are no things. ``pred_instances.gt_index`` holds the index of the thing or -1.

    Args:
        model: Config of any ``TwoStagePanopticSegmentor``: ``mmbanet.BANet``, ``PanopticFPN``, ...
        oracles: Which of the above, at least one.
        matching_iou: 0..1.
        data_preprocessor: Of the images, where ``model`` has none.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        *,
        model: ConfigType,
        oracles: Sequence[str],
        matching_iou: float = 0.5,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        model = ConfigDict(copy.deepcopy(model))
        model.data_preprocessor = model.get('data_preprocessor') or data_preprocessor
        super().__init__(data_preprocessor=model.data_preprocessor, init_cfg=init_cfg)
        if isinstance(oracles, str) or not oracles or not set(oracles) <= set(ORACLES):
            raise ValueError(f'oracles must be a list of some of {ORACLES}, got {oracles!r}')
        check_threshold('matching_iou', matching_iou)
        self.oracles = frozenset(oracles)
        self.matching_iou = matching_iou
        if 'boxes' in self.oracles:
            _select_all(model)
        self.model: TwoStagePanopticSegmentor = MODELS.build(model)
        self._check_model()
        self.register_load_state_dict_pre_hook(_add_prefix)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> NoReturn:
        """There is none."""
        raise NotImplementedError(
            'mmbanet.OracleModel is for inference: train the model in it with its own config'
        )

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """The model's own prediction with the oracles' parts replaced.

        Args:
            batch_inputs: (N, 3, H, W), normalised and padded.
            batch_data_samples: With the annotation, see :meth:`GroundTruth.from_sample`.
            rescale: As for the model.

        Returns:
            The samples as the model fills them.
        """
        truths = [GroundTruth.from_sample(x, batch_inputs.device) for x in batch_data_samples]
        roi_head, fusion_head = self.model.roi_head, self.model.panoptic_fusion_head
        detect = partial(self._detect, roi_head.predict_bbox, truths)
        fuse = partial(self._fuse, fusion_head.predict, truths)
        with replaced(roi_head, predict_bbox=detect), replaced(fusion_head, predict=fuse):
            return self.model.predict(batch_inputs, batch_data_samples, rescale)

    def extract_feat(self, batch_inputs: Tensor) -> Sequence[Tensor]:
        """Features of the model."""
        return self.model.extract_feat(batch_inputs)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        """Raw outputs of the model; no oracle has a part in them."""
        return self.model(batch_inputs, batch_data_samples, mode='tensor')

    def _detect(
        self,
        predict_bbox: Callable,
        truths: list[GroundTruth],
        x: Sequence[Tensor],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        **kwargs,
    ) -> InstanceList:
        """In place of the RoI head's ``predict_bbox``: boxes in pixels of the network's input."""
        if 'boxes' in self.oracles:
            proposals = [InstanceData(bboxes=truth.boxes) for truth in truths]
            # Without a test_cfg, RoI heads give every box all class probabilities.
            raw = predict_bbox(x, batch_img_metas, proposals, rcnn_test_cfg=None, **kwargs)
            detections = [self._true_boxes(item.scores, truth) for item, truth in zip(raw, truths)]
        else:
            detections = predict_bbox(
                x, batch_img_metas, rpn_results_list, rcnn_test_cfg=rcnn_test_cfg, **kwargs
            )
            for item, truth in zip(detections, truths):
                item.gt_index = match_boxes(item.bboxes, truth.boxes, self.matching_iou)

        if 'classes' in self.oracles:
            for item, truth in zip(detections, truths):
                matched = item.gt_index >= 0
                item.labels[matched] = truth.labels[item.gt_index[matched]]
        return detections

    def _true_boxes(self, probabilities: Tensor, truth: GroundTruth) -> InstanceData:
        """The annotated boxes as detections; ``probabilities`` are (K, classes, background)."""
        scores, labels = probabilities[:, : self.model.num_things_classes].max(dim=1)
        return InstanceData(
            bboxes=truth.boxes.clone(),  # mask heads rescale boxes in place
            scores=scores,
            labels=labels,
            gt_index=torch.arange(len(labels), device=labels.device),
        )

    def _fuse(
        self,
        predict: Callable,
        truths: list[GroundTruth],
        detections: InstanceList,
        semantics: list[Tensor],
        *images: list[Tensor] | None,
    ) -> PixelList:
        """In place of the fusion head's ``predict``."""
        truths = [truth.resized(item.shape[-2:]) for truth, item in zip(truths, semantics)]
        if 'semantics' in self.oracles:
            semantics = [self._true_semantics(truth.semantics) for truth in truths]
        if 'occlusion' not in self.oracles:
            return predict(detections, semantics, *images)
        preferences = [
            true_preference(item.masks, item.gt_index, truth.masks)
            for item, truth in zip(detections, truths)
        ]
        return predict(detections, semantics, *images, preferences=preferences)

    def _true_semantics(self, labels: Tensor) -> Tensor:
        """Labels (H, W) as the fusion head takes them."""
        void = self.model.num_classes
        labels = labels.masked_fill(labels == IGNORED, void)
        if isinstance(self.model.panoptic_fusion_head, FusionHead):
            return labels
        # As logits: of every stuff class, and the last of things and void.
        first_stuff = self.model.num_things_classes
        stuff = labels.masked_fill(labels < first_stuff, void) - first_stuff
        return F.one_hot(stuff, self.model.num_stuff_classes + 1).permute(2, 0, 1)

    def _check_model(self) -> None:
        if not isinstance(self.model, TwoStagePanopticSegmentor):
            raise TypeError(
                'model: expected a two-stage panoptic model (mmbanet.BANet, PanopticFPN or another '
                f'TwoStagePanopticSegmentor), got {type(self.model).__name__}'
            )
        head = self.model.panoptic_fusion_head
        occlusion_aware = isinstance(head, OcclusionAwareFusionHead)
        if 'semantics' in self.oracles and not _takes_labels(head):
            raise TypeError(
                "model.panoptic_fusion_head: the oracle 'semantics' needs a head that takes "
                "labels, such as mmbanet.OcclusionAwareFusionHead, or 'stuff_and_things', got "
                f'{type(head).__name__}, which weighs logits that annotations do not have'
            )
        if 'occlusion' not in self.oracles:
            return
        if not occlusion_aware:
            raise TypeError(
                "model.panoptic_fusion_head: the oracle 'occlusion' needs "
                f'mmbanet.OcclusionAwareFusionHead, got {type(head).__name__}'
            )
        if head.order is None:
            raise ValueError(
                'model.panoptic_fusion_head: order must be an order rule with the oracle '
                "'occlusion', got None, which knows no pairs"
            )


def _takes_labels(head: nn.Module) -> bool:
    """Whether labels, or logits that say no more than they do, are enough for a fusion head."""
    if isinstance(head, FusionHead):
        return not head.needs_semantic_logits
    return layout_of(head) == 'stuff_and_things'


def _select_all(model: ConfigDict) -> None:
    """Lets all detections go to fusion."""
    panoptic = model.get('test_cfg', {}).get('panoptic', {})
    if 'score_thr' in panoptic:  # mmdet's heads select nothing
        panoptic.update(score_thr=-1.0, nms=None)


def _add_prefix(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_) -> None:
    """Names of the inner model's checkpoint as they are here."""
    for name in list(state_dict):
        if name.startswith(prefix) and not name.startswith(prefix + PREFIX):
            state_dict[prefix + PREFIX + name[len(prefix) :]] = state_dict.pop(name)
