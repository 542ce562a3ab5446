"""The registered fusion head: instances and semantics to a panoptic map (section 3.4)."""

from __future__ import annotations

from mmdet.models.seg_heads.panoptic_fusion_heads.base_panoptic_fusion_head import (
    BasePanopticFusionHead,
)
from mmdet.structures import INSTANCE_OFFSET
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

from mmbanet.registry import MODELS

from .heuristic import resolve_by_score
from .occlusion import resolve_occlusion
from .panoptic_map import compose_panoptic_map, stuff_labels
from .selection import select_detections

SETTINGS = ('score_thr', 'nms', 'occlusion_thr', 'removal_thr', 'stuff_area_limit')
FIELDS = ('bboxes', 'labels', 'scores', 'masks')


@MODELS.register_module()
class OcclusionAwareFusionHead(BasePanopticFusionHead):
    """Fuses any top-down model's instances and semantics; has no parameters.

    Args:
        num_things_classes (int): Thing classes, the first labels.
        num_stuff_classes (int): Stuff classes, the labels after them.
        overlap_rule (str): Who owns a pixel that several instances claim: ``'appearance'``, see
            :func:`resolve_occlusion`, or ``'score'``, see :func:`resolve_by_score`.
        semantic_layout (str): The channels of the semantic logits, see :func:`stuff_labels`. With
            one thing class, ``'auto'`` cannot tell and must be replaced.
        test_cfg (dict, optional): All of ``score_thr`` and ``nms`` (:func:`select_detections`),
            ``occlusion_thr`` and ``removal_thr`` (shares of an object's area) and
            ``stuff_area_limit`` (pixels of the output). The model passes its
            ``test_cfg.panoptic``. Needed by :meth:`predict`.
        init_cfg (dict, optional): MMEngine's; there is nothing to initialise.
    """

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        overlap_rule: str = 'appearance',
        semantic_layout: str = 'auto',
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, test_cfg, init_cfg=init_cfg)
        _check_choice('overlap_rule', overlap_rule, ('appearance', 'score'))
        _check_choice('semantic_layout', semantic_layout, ('auto', 'all', 'stuff_and_things'))
        if semantic_layout == 'auto' and num_things_classes == 1:
            raise ValueError(
                "semantic_layout must be 'all' or 'stuff_and_things' with num_things_classes=1, "
                "where both have the same number of channels, got 'auto'"
            )
        if self.num_classes >= INSTANCE_OFFSET:
            raise ValueError(
                f'num_things_classes + num_stuff_classes must be under {INSTANCE_OFFSET}, the '
                f"base of mmdet's panoptic encoding, got {self.num_classes}"
            )
        if test_cfg is not None:
            _check_settings(test_cfg)
        self.overlap_rule = overlap_rule
        self.semantic_layout = semantic_layout

    @property
    def needs_images(self) -> bool:
        """Whether :meth:`predict` looks at the images."""
        return self.overlap_rule == 'appearance'

    def loss(self, **kwargs) -> dict:
        """Nothing is learned here."""
        return {}

    def predict(
        self,
        mask_results_list: list[InstanceData],
        seg_preds_list: list[Tensor],
        images: list[Tensor] | None = None,
    ) -> list[PixelData]:
        """Panoptic maps of a batch. The inputs are not modified.

        Args:
            mask_results_list (list[InstanceData]): With ``bboxes`` (N, 4), ``labels`` (N,),
                ``scores`` (N,) and ``masks`` (N, H, W) bool, per image.
            seg_preds_list (list[Tensor]): Semantic logits (C, H, W) per image.
            images (list[Tensor], optional): RGB (3, H, W) in 0..255 per image. Not needed by
                ``overlap_rule='score'``.

        Returns:
            list[PixelData]: With ``sem_seg`` (1, H, W) int32 in mmdet's panoptic encoding: things
            ``label + id * INSTANCE_OFFSET`` with ids from 1 in descending order of score, stuff
            its label, void ``num_classes``.
        """
        if self.test_cfg is None:
            raise ValueError(f'test_cfg must be given to predict, with {", ".join(SETTINGS)}')
        if not self.needs_images:
            images = [None] * len(mask_results_list)
        elif images is None:
            raise ValueError(
                "images must be given with overlap_rule='appearance', got None "
                '(the detector mmbanet.BANet hands them over)'
            )
        lengths = len(mask_results_list), len(seg_preds_list), len(images)
        if len(set(lengths)) > 1:
            raise ValueError(
                'mask_results_list, seg_preds_list and images must have the same length, '
                f'got {lengths}'
            )
        return [
            self._predict_single(*inputs)
            for inputs in zip(mask_results_list, seg_preds_list, images)
        ]

    def _predict_single(
        self, instances: InstanceData, logits: Tensor, image: Tensor | None
    ) -> PixelData:
        cfg = self.test_cfg
        _check_inputs(instances, logits)
        instances = select_detections(instances, cfg['score_thr'], cfg['nms'])
        owner = self._resolve(instances, image)
        stuff = stuff_labels(
            logits, self.num_things_classes, self.num_stuff_classes, self.semantic_layout
        )
        panoptic = compose_panoptic_map(
            owner, instances.labels, stuff, self.num_classes, cfg['stuff_area_limit']
        )
        return PixelData(sem_seg=panoptic[None].int())

    def _resolve(self, instances: InstanceData, image: Tensor | None) -> Tensor:
        cfg = self.test_cfg
        masks, scores = instances.masks, instances.scores
        if self.overlap_rule == 'score':
            owner, _ = resolve_by_score(masks, scores, cfg['removal_thr'])
        else:
            owner, _ = resolve_occlusion(
                masks, scores, image, cfg['occlusion_thr'], cfg['removal_thr']
            )
        return owner


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'{name} must be one of {choices}, got {value!r}')


def _check_settings(test_cfg: dict) -> None:
    missing = [name for name in SETTINGS if name not in test_cfg]
    unknown = [name for name in test_cfg if name not in SETTINGS]
    if missing or unknown:
        raise ValueError(
            f"test_cfg (the model's test_cfg.panoptic) must have exactly {', '.join(SETTINGS)}; "
            f'missing: {", ".join(missing) or "none"}; unknown: {", ".join(unknown) or "none"}'
        )


def _check_inputs(instances: InstanceData, logits: Tensor) -> None:
    missing = [name for name in FIELDS if name not in instances]
    if missing:
        raise ValueError(
            f'mask_results must have the fields {", ".join(FIELDS)}, missing: {", ".join(missing)}'
        )
    if logits.ndim != 3 or logits.shape[1:] != instances.masks.shape[1:]:
        raise ValueError(
            'semantic logits must have the shape (C, H, W) with the resolution of the masks '
            f'{tuple(instances.masks.shape)}, got {tuple(logits.shape)}'
        )
