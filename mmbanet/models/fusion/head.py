"""The registered fusion head: instances and semantics to a panoptic map (section 3.4)."""

from __future__ import annotations

from copy import copy

import torch
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmbanet.registry import MODELS
from mmbanet.structures import OcclusionGraph

from ..semantic.logits import semantic_labels
from .base import FusionHead
from .checks import (
    check_common_settings,
    check_labels,
    check_masks,
    check_preference,
    check_scores,
)
from .compose import compose_panoptic_map, pixel_data
from .duplicates import DuplicateFilter
from .heuristic import score_order
from .occlusion import explain_occlusion
from .order import OrderRule
from .selection import select_detections
from .settings import OcclusionSettings

SETTINGS = ('score_thr', 'nms', 'occlusion_thr', 'removal_thr', 'stuff_area_limit')
READINGS = ('pairs', 'removal')
NUMBERS = ('bboxes', 'labels', 'scores')
FIELDS = (*NUMBERS, 'masks')


@MODELS.register_module()
class OcclusionAwareFusionHead(FusionHead):
    """Fuses any top-down model's instances and semantics; has no parameters.

    Args:
        num_things_classes: Thing classes, the first labels.
        num_stuff_classes: Stuff classes, the labels after them.
        order: Config of the :class:`OrderRule` that says who is in
            front in an occluded pair, or of several, of which the next is asked where those before
            cannot tell. None: no occlusion handling but the score order of
            :func:`resolve_by_score`.
        test_cfg: All of ``score_thr`` and ``nms`` (:func:`select_detections`),
            ``occlusion_thr`` and ``removal_thr`` (shares of an object's area) and
            ``stuff_area_limit`` (pixels of the output); if wanted the readings of the paper
            ``pairs`` and ``removal``, see :class:`OcclusionSettings`; not with ``order=None``. The
            model passes its ``test_cfg.panoptic``. Needed by :meth:`predict`.
        init_cfg: MMEngine's; there is nothing to initialise.
        duplicates: Config of a :class:`DuplicateFilter`, which drops objects that are others once
            more before pairs are ordered. None: none is dropped, as in the paper.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        order: dict | list[dict] | None = dict(type='mmbanet.MeanColor'),  # noqa: B006
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        duplicates: dict | None = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, init_cfg=init_cfg)
        if order is not None:
            configs = [order] if isinstance(order, dict) else order
            order = [MODELS.build(config) for config in configs]
        self.order = order
        self.duplicates = None if duplicates is None else MODELS.build(duplicates)
        # Without a test_cfg, of which predict complains, only the rules are checked.
        self.settings = OcclusionSettings(order=order or (), duplicates=self.duplicates)
        if test_cfg is not None:
            _check_settings(test_cfg)
            self.settings = _occlusion_settings(order, self.duplicates, test_cfg)

    @property
    def needs_images(self) -> bool:
        """Whether :meth:`predict` looks at the images."""
        return self.settings.need_image

    def predict(
        self,
        mask_results_list: list[InstanceData],
        seg_preds_list: list[Tensor],
        images: list[Tensor] | None = None,
        preferences: list[Tensor] | None = None,
        *,
        semantic_layout: str | None = None,
    ) -> list[PixelData]:
        """Panoptic maps of a batch. The inputs are not modified.

        Args:
            mask_results_list: With ``bboxes`` (N, 4), ``labels`` (N,),
                ``scores`` (N,) and ``masks`` (N, H, W) bool, per image.
            seg_preds_list: Per image the semantic prediction, see
                :func:`semantic_labels`: logits (C, h, w) of any resolution, or integer labels
                (H, W).
            images: RGB (3, H, W) in 0..255 per image. Needed by
                order rules that look at them, see :attr:`needs_images`.
            preferences: Per image (N, N) int8, who of any two instances is
                in front where that is known, see :func:`resolve_occlusion`. Not with
                ``order=None``, which knows no pairs.
            semantic_layout: The channels of logits, ``'all'`` or
                ``'stuff_and_things'``. Needed with one thing class only, where their number does
                not tell.

        Returns:
            Per image

            * ``sem_seg`` (1, H, W) int32 in mmdet's panoptic encoding: things
              ``label + id * INSTANCE_OFFSET``, stuff its label, void ``num_classes``. Left out,
              with a warning, where that cannot tell all segments apart in the 24 bits that COCO
              has for ids: from 1,000 classes or 16,777 things on.
            * ``segment_ids`` (1, H, W) int32: ids of ``segments_info``, 0 for void.
            * ``segments_info`` (list[dict]), see :func:`segments_info`.
            * ``occlusion`` (:class:`OcclusionGraph`) of the K instances that took part, and
              ``detections`` (K,) int64 on the CPU, their indices in the given ones, in descending
              order of score.
        """
        if self.test_cfg is None:
            raise ValueError(f'test_cfg must be given to predict, with {", ".join(SETTINGS)}')
        if not self.needs_images:
            images = [None] * len(mask_results_list)
        elif images is None:
            raise ValueError(
                'images must be given with an order rule that looks at them, got None '
                '(the detector mmbanet.BANet hands them over)'
            )
        lengths = len(mask_results_list), len(seg_preds_list), len(images)
        if len(set(lengths)) > 1:
            raise ValueError(
                'mask_results_list, seg_preds_list and images must have the same length, '
                f'got {lengths}'
            )
        if preferences is None:
            preferences = [None] * len(images)
        elif self.order is None:
            raise ValueError('preferences must be None with order=None, got a list')
        elif len(preferences) != len(images):
            raise ValueError(
                f'preferences must have the length of images, {len(images)}, got {len(preferences)}'
            )
        return [
            self._predict_single(*inputs, semantic_layout)
            for inputs in zip(mask_results_list, seg_preds_list, images, preferences)
        ]

    @torch.no_grad()
    def _predict_single(
        self,
        instances: InstanceData,
        prediction: Tensor,
        image: Tensor | None,
        preference: Tensor | None,
        semantic_layout: str | None,
    ) -> PixelData:
        cfg = self.test_cfg
        instances = _checked_instances(instances, self.num_things_classes)
        size = instances.masks.shape[1:]
        if preference is not None:
            check_preference(preference, len(instances))
        classes = self.num_things_classes, self.num_stuff_classes
        semantics = semantic_labels(prediction, size, *classes, semantic_layout)

        chosen = select_detections(instances, cfg['score_thr'], cfg['nms'])
        scores = instances.scores[chosen]
        if preference is not None:
            preference = preference.cpu()[chosen[:, None], chosen]
        owner, graph = self._resolve(instances, chosen, image, preference)
        panoptic = compose_panoptic_map(
            owner, semantics, instances.labels[chosen], scores, *classes, cfg['stuff_area_limit']
        )
        return pixel_data(panoptic, graph, chosen, self.num_classes)

    def _resolve(
        self,
        instances: InstanceData,
        chosen: Tensor,
        image: Tensor | None,
        preference: Tensor | None,
    ) -> tuple[Tensor, OcclusionGraph]:
        """Who owns each pixel.

        Args:
            instances: Boxes, labels and scores are on the CPU.
            chosen: (K,) int64 on the CPU.
            image: (3, H, W).
            preference: (K, K) on the CPU, of the ``chosen`` instances.
        """
        return explain_occlusion(
            instances.masks,
            instances.scores[chosen],
            image,
            preference,
            settings=self.settings,
            objects=chosen,
            labels=instances.labels[chosen],
        )


def _check_settings(test_cfg: dict) -> None:
    missing = [name for name in SETTINGS if name not in test_cfg]
    unknown = [name for name in test_cfg if name not in SETTINGS + READINGS]
    if missing or unknown:
        raise ValueError(
            f"test_cfg (the model's test_cfg.panoptic) must have {', '.join(SETTINGS)} and may "
            f'have {", ".join(READINGS)}; missing: {", ".join(missing) or "none"}; '
            f'unknown: {", ".join(unknown) or "none"}'
        )
    check_common_settings(test_cfg)


def _occlusion_settings(
    order: list[OrderRule] | None, duplicates: DuplicateFilter | None, test_cfg: dict
) -> OcclusionSettings:
    readings = {name: test_cfg[name] for name in READINGS if name in test_cfg}
    settings = OcclusionSettings(
        test_cfg['occlusion_thr'],
        test_cfg['removal_thr'],
        order or (),
        duplicates=duplicates,
        **readings,
    )
    if order is not None:
        return settings
    if readings:
        raise ValueError(
            f'test_cfg.{min(readings)}: not with order=None, which lays objects by their scores; '
            'leave it out'
        )
    return score_order(settings.removal_thr, duplicates)


def _checked_instances(instances: InstanceData, num_things_classes: int) -> InstanceData:
    """The instances, with their few numbers on the CPU: a GPU would wait for each decision."""
    missing = [name for name in FIELDS if name not in instances]
    if missing:
        raise ValueError(
            f'mask_results must have the fields {", ".join(FIELDS)}, missing: {", ".join(missing)}'
        )
    instances = copy(instances)
    for name in NUMBERS:
        if isinstance(instances[name], Tensor):
            setattr(instances, name, instances[name].cpu())
    check_masks(instances.masks)
    check_scores(instances.scores, len(instances.masks))
    check_labels(instances.labels, len(instances), num_things_classes)
    return instances
