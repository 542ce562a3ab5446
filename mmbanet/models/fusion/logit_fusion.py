"""The registered head of the rivals' fusion by logits, see ``docs/rivals.md``."""

from __future__ import annotations

from dataclasses import fields

import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmbanet.registry import MODELS

from ..semantic.logits import LAYOUTS
from ..semantic.resized_logits import ResizedLogits
from .base import FusionHead
from .checks import check_choice, check_common_settings, check_labels, check_masks, check_scores
from .compose import compose_panoptic_map, pixel_data
from .logit_rules import RULES
from .logit_rules.panoptic_loss import PanopticLoss
from .logit_rules.rule import StuffChannels
from .selection import select_detections

SETTINGS = ('score_thr', 'nms', 'stuff_area_limit')
FIELDS = ('bboxes', 'labels', 'scores', 'masks', 'mask_logits')


@MODELS.register_module()
class LogitFusionHead(FusionHead):
    """Fuses mask logits and semantic logits; has no parameters.

    Args:
        rule: ``'upsnet'``, ``'efficientps'``, ``'jsis'`` or ``'mask_wise'`` (Panoptic SegFormer's).
        num_things_classes: Thing classes T, the first labels.
        num_stuff_classes: Stuff classes S, the labels after them.
        loss_weight: Of UPSNet's panoptic loss; 0 leaves it out. Not with other rules.
        test_cfg: All of ``score_thr`` and ``nms`` (:func:`select_detections`) and
            ``stuff_area_limit`` (pixels of the output); if wanted the rule's own settings, the
            fields of its class in ``logit_rules``. The model passes its ``test_cfg.panoptic``.
        init_cfg: MMEngine's; there is nothing to initialise.
    """

    needs_mask_logits = True
    needs_semantic_logits = True

    def __init__(
        self,
        rule: str,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        loss_weight: float = 0.0,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, init_cfg=init_cfg)
        check_choice('rule', rule, tuple(RULES))
        settings = {} if test_cfg is None else _checked_settings(rule, test_cfg)
        self.rule = RULES[rule](**settings)
        self.semantic_layout = 'all' if self.rule.needs_all_classes else None
        if not loss_weight >= 0:
            raise ValueError(f'loss_weight must be 0 or more, got {loss_weight}')
        if loss_weight and rule != 'upsnet':
            raise ValueError(f"loss_weight must be 0 with rule='{rule}', which is not learned")
        self.has_loss = loss_weight > 0
        if self.has_loss:
            self._loss = PanopticLoss(
                num_things_classes, loss_weight, self.rule.outside, self.rule.unknown
            )

    def loss(self, instances: list, logits: Tensor, data_samples: list) -> dict[str, Tensor]:
        """UPSNet's panoptic loss, see :class:`PanopticLoss`."""
        return dict(loss_panoptic=self._loss(instances, logits, data_samples))

    def predict(
        self,
        mask_results_list: list[InstanceData],
        seg_preds_list: list[ResizedLogits | Tensor],
        images: None = None,
        *,
        semantic_layout: str | None = None,
    ) -> list[PixelData]:
        """Panoptic maps of a batch. The inputs are not modified.

        Args:
            mask_results_list: With ``bboxes`` (N, 4), ``labels`` (N,), ``scores`` (N,), ``masks``
                (N, H, W) bool and ``mask_logits`` (N, m, m), per image.
            seg_preds_list: Per image logits, :class:`ResizedLogits` or (C, h, w) of any resolution.
            images: Not looked at.
            semantic_layout: Of logits that are a tensor; ``'all'`` if not given.

        Returns:
            As :meth:`OcclusionAwareFusionHead.predict`, without an occlusion graph.
        """
        if self.test_cfg is None:
            raise ValueError(f'test_cfg must be given to predict, with {", ".join(SETTINGS)}')
        lengths = len(mask_results_list), len(seg_preds_list)
        if len(set(lengths)) > 1:
            raise ValueError(
                f'mask_results_list and seg_preds_list must have the same length, got {lengths}'
            )
        return [
            self._predict_single(instances, prediction, semantic_layout or 'all')
            for instances, prediction in zip(mask_results_list, seg_preds_list)
        ]

    @torch.no_grad()
    def _predict_single(
        self, instances: InstanceData, prediction: ResizedLogits | Tensor, layout: str
    ) -> PixelData:
        cfg = self.test_cfg
        _check_instances(instances, self.num_things_classes)
        semantics = self._checked_semantics(prediction, instances.masks.shape[1:], layout)
        chosen = select_detections(instances, cfg['score_thr'], cfg['nms'])
        boxes, logits = instances.bboxes[chosen].float(), instances.mask_logits[chosen].float()
        selected = InstanceData(
            bboxes=boxes,
            labels=instances.labels[chosen].long(),
            scores=instances.scores[chosen],
            masks=instances.masks[chosen],
            mask_logits=logits,
        )
        classes = self.num_things_classes, self.num_stuff_classes
        limit = cfg['stuff_area_limit']
        channels = StuffChannels(*classes, semantics, limit)
        owner, labels = self.rule.fuse(selected, semantics, channels)
        panoptic = compose_panoptic_map(
            owner,
            labels.int(),
            selected.labels,
            selected.scores,
            *classes,
            limit if self.rule.limits_what_is_left else 0,
        )
        return pixel_data(panoptic, None, chosen, self.num_classes)

    def _checked_semantics(
        self, prediction: ResizedLogits | Tensor, size: tuple[int, int], layout: str
    ) -> ResizedLogits:
        if isinstance(prediction, Tensor):
            if not prediction.is_floating_point() or prediction.ndim != 3:
                raise TypeError(
                    'seg_preds must be logits (C, h, w), got '
                    f'{prediction.dtype} {tuple(prediction.shape)}'
                )
            check_choice('semantic_layout', layout, LAYOUTS)
            prediction = ResizedLogits.to_size(prediction, size, layout)
        if not isinstance(prediction, ResizedLogits):
            raise TypeError(f'seg_preds must be logits, got {type(prediction).__name__}')
        if self.semantic_layout not in (None, prediction.layout):
            raise ValueError(
                f'{type(self.rule).__name__} takes semantic logits of all classes, got '
                f'semantic_layout={prediction.layout!r}'
            )
        stuff_and_things = prediction.layout == 'stuff_and_things'
        expected = self.num_stuff_classes + (1 if stuff_and_things else self.num_things_classes)
        if prediction.shape != (expected, *size):
            raise ValueError(
                f'semantic logits must have {expected} channels and the size of the masks '
                f'{tuple(size)}, got {prediction.shape}'
            )
        if not prediction.logits.isfinite().all():
            raise ValueError('semantic logits must be finite, got NaN or infinity')
        return prediction


def _checked_settings(rule: str, test_cfg: dict) -> dict:
    """The rule's own settings."""
    own = tuple(field.name for field in fields(RULES[rule]))
    missing = [name for name in SETTINGS if name not in test_cfg]
    unknown = [name for name in test_cfg if name not in SETTINGS + own]
    if missing or unknown:
        raise ValueError(
            f"test_cfg (the model's test_cfg.panoptic) must have {', '.join(SETTINGS)} and may "
            f"have {', '.join(own) or 'nothing else'} with rule='{rule}'; missing: "
            f'{", ".join(missing) or "none"}; unknown: {", ".join(unknown) or "none"}'
        )
    check_common_settings(test_cfg)
    return {name: test_cfg[name] for name in own if name in test_cfg}


def _check_instances(instances: InstanceData, num_things_classes: int) -> None:
    missing = [name for name in FIELDS if name not in instances]
    if missing:
        raise ValueError(
            f'mask_results must have the fields {", ".join(FIELDS)}, missing: {", ".join(missing)}'
        )
    count = len(instances.masks)
    check_masks(instances.masks)
    check_scores(instances.scores, count)
    check_labels(instances.labels, count, num_things_classes)
    logits = instances.mask_logits
    if not logits.is_floating_point() or logits.ndim != 3 or len(logits) != count:
        raise ValueError(
            f'mask_logits must be floating point ({count}, m, m), got '
            f'{logits.dtype} {tuple(logits.shape)}'
        )
    if not logits.isfinite().all():
        raise ValueError('mask_logits must be finite, got NaN or infinity')
