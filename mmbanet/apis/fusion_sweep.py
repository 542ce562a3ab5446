"""PQ at other thresholds of fusion, from one pass of the network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmbanet.evaluation.panoptic_quality import average_quality, count_matches
from mmbanet.evaluation.panoptic_truth import PanopticTruth
from mmbanet.evaluation.predictions import read_id_map, read_segments
from mmbanet.models.fusion import FusionHead
from mmbanet.structures.matching import find_runs

# What fusion heads call the largest share of an object that others take (MaskFormer: the least that
# it keeps).
OVERLAPS = ('removal_thr', 'mask_overlap', 'iou_thr')


class FusionSweep:
    """Fuses the detections and logits of every batch again, with other thresholds.

    Semantic logits stay those of the model's own threshold, where they depend on it (I2S).

    Args:
        model: A panoptic model with its config as ``cfg``, see :func:`init_model`.
        truth: The annotations, with the model's classes.
        score_thrs: Least scores. The model's own is added; lower ones are left out for mmdet's
            heads for detections, which are given those above it and select nothing themselves.
        overlap_thrs: Other values of ``removal_thr`` (or what the head calls it); the model's own
            is added. One column where it has none.

    Raises:
        ValueError: The model has no fusion head, or one without a threshold of scores.
    """

    def __init__(
        self,
        model: nn.Module,
        truth: PanopticTruth,
        score_thrs: Sequence[float],
        overlap_thrs: Sequence[float],
    ) -> None:
        config = model.cfg.model
        while 'panoptic_fusion_head' not in config and 'model' in config:  # OracleModel
            config, model = config.model, model.model
        self.head = getattr(model, 'panoptic_fusion_head', None)
        settings = None if self.head is None else self.head.test_cfg
        if settings is None:
            raise ValueError(f'{type(model).__name__} has no fusion head with thresholds')
        self._selects = isinstance(self.head, FusionHead | MaskFormerFusionHead)
        self.score_name, score = 'score_thr', settings.get('score_thr')
        if isinstance(self.head, MaskFormerFusionHead):
            self.score_name, score = 'object_mask_thr', settings.get('object_mask_thr', 0.8)
        elif score is None:
            score = model.test_cfg.rcnn.score_thr
        self.overlap_name = next((name for name in OVERLAPS if name in settings), None)
        self.own = float(score), self.overlap_name and float(settings[self.overlap_name])
        lowest = -np.inf if self._selects else self.own[0]
        self.scores = sorted({self.own[0], *(thr for thr in score_thrs if thr > lowest)})
        self.overlaps = [None]
        if self.overlap_name is not None:
            self.overlaps = sorted({self.own[1], *overlap_thrs})
        self.truth = truth
        self.counts = np.zeros((len(self.scores), len(self.overlaps), len(truth.classes), 4))
        self._heads = [
            [
                self._variant(config.panoptic_fusion_head, score, overlap)
                for overlap in self.overlaps
            ]
            for score in self.scores
        ]
        self._call = None

    def _variant(self, config: dict, score: float, overlap: float | None) -> nn.Module:
        settings = copy.deepcopy(self.head.test_cfg)
        settings[self.score_name] = score
        if overlap is not None:
            settings[self.overlap_name] = overlap
        head = MODELS.build(dict(config, test_cfg=settings))
        head.load_state_dict(self.head.state_dict())
        device = next((p.device for p in self.head.parameters()), 'cpu')
        return head.to(device).eval()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within it the model predicts a batch, to be given to :meth:`add`."""
        predict = self.head.predict

        def recorded(*args, **kwargs):
            self._call = args, kwargs
            return predict(*args, **kwargs)

        self.head.predict = recorded  # an attribute of the object hides the method of its class
        try:
            yield
        finally:
            self.head.__dict__.pop(
                'predict', None
            )  # an oracle has put its own there, and removed it

    @torch.no_grad()
    def add(self, image_ids: Sequence[int]) -> None:
        """Fuses the recorded batch at all thresholds; ids of images without annotation are None."""
        args, kwargs = self._call
        for i, score in enumerate(self.scores):
            given = args
            if not self._selects:
                given = ([_above(item, score) for item in args[0]], *args[1:])
            for j, head in enumerate(self._heads[i]):
                for image_id, result in zip(image_ids, head.predict(*given, **kwargs)):
                    if image_id is not None:
                        self.counts[i, j] += self._count(image_id, result)
        self._call = None

    def _count(self, image_id: int, result: PixelData | dict) -> np.ndarray:
        found = result['pan_results'] if isinstance(result, dict) else result
        prediction = {key: found.get(key) for key in found.all_keys()}
        true_map, _ = self.truth.load(image_id)
        runs = find_runs(true_map, read_id_map(prediction, true_map.shape))
        segments = read_segments(prediction, np.unique(runs.ids), len(self.truth.classes))
        comparison = self.truth.compare(image_id, true_map, segments, runs)
        return count_matches(*comparison, len(self.truth.classes))

    def numbers(self) -> dict:
        """``score`` and ``overlap``: ``name``, ``values`` and the model's ``own``; ``PQ``: by both.

        In percent; None where no class is annotated or predicted.
        """
        chosen = self.truth.is_thing | True
        quality = [[average_quality(c, chosen)[0]['pq'] for c in row] for row in self.counts]
        return dict(
            score=dict(name=self.score_name, values=self.scores, own=self.own[0]),
            overlap=dict(name=self.overlap_name, values=self.overlaps, own=self.own[1]),
            PQ=[[None if np.isnan(pq) else 100 * pq for pq in row] for row in quality],
        )


def _above(instances: InstanceData, score_thr: float) -> InstanceData:
    return instances[instances.scores > score_thr]
