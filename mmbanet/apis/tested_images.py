"""The test set of a config as a model predicts it, image by image, beside the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import METRICS, init_default_scope
from mmengine.runner import Runner

from mmbanet.evaluation.panoptic_truth import PanopticTruth

from .fusion_sweep import FusionSweep
from .inference import init_model
from .judgement import judge
from .labelled_images import LabelledImage, labelled
from .panoptic_result import PanopticResult
from .settled_classes import settle_classes

OCCLUSION_METRIC = 'mmbanet.OcclusionMetric'


class TestedImages:
    """Predictions of the images of ``test_dataloader``, judged by the annotations.

    Args:
        config: Its classes are settled in place; ``test_evaluator`` has a metric with ``ann_file``
            and ``seg_prefix``.
        checkpoint: File or URL; None if the parts of the model bring their own.
        device: Of the model.
        score_thrs: Of a :class:`FusionSweep`; none: without one.
        overlap_thrs: As well.

    Attributes:
        classes: Names.
        is_thing: Of each class.
        palette: RGB of each class, or None.
        notes: What cannot be told of this model, and why.

    Raises:
        FileNotFoundError: A file or folder is missing.
        ValueError: The config has no truth, or a file is not as it must be.
    """

    __test__ = False  # of pytest

    def __init__(
        self,
        config: Config,
        checkpoint: str | None,
        device: str,
        score_thrs: Sequence[float] = (),
        overlap_thrs: Sequence[float] = (),
    ) -> None:
        settle_classes(config, checkpoint)
        metrics = config.get('test_evaluator') or []
        metrics = [metrics] if isinstance(metrics, dict) else metrics
        of_truth = next((m for m in metrics if m.get('ann_file') and m.get('seg_prefix')), None)
        if of_truth is None:
            raise ValueError(
                f'{config.filename}: test_evaluator has no metric with ann_file and seg_prefix, '
                'such as mmbanet.PanopticMetric: without the truth there is nothing to report'
            )
        init_default_scope(config.get('default_scope', 'mmdet'))
        self._loader = Runner.build_dataloader(config.test_dataloader)
        self.truth = PanopticTruth(
            of_truth['ann_file'], of_truth['seg_prefix'], of_truth.get('backend_args')
        )
        self.model = init_model(config, checkpoint, device)
        meta = self.model.dataset_meta
        self.truth.use_classes(meta)
        self.classes, self.is_thing = self.truth.classes, self.truth.is_thing.tolist()
        self.palette = meta.get('palette')
        self.notes: list[str] = []
        self._occlusion = None
        for metric in metrics:
            if metric['type'] == OCCLUSION_METRIC:
                self._occlusion = METRICS.build(metric)
                self._occlusion.dataset_meta = meta
        self._sweep = None
        if score_thrs:
            try:
                self._sweep = FusionSweep(self.model, self.truth, score_thrs, overlap_thrs)
            except ValueError as error:
                self.notes.append(f'No thresholds against PQ: {error}.')

    def __len__(self) -> int:
        return len(self._loader.dataset)

    def __iter__(self) -> Iterator[LabelledImage]:
        """The annotated ones."""
        for batch in self._loader:
            with torch.no_grad():
                if self._sweep is None:
                    samples = self.model.test_step(batch)
                else:
                    with self._sweep.recording():
                        samples = self.model.test_step(batch)
            known = [self.truth.is_annotated(sample.img_id) for sample in samples]
            if self._sweep is not None:
                ids = [
                    sample.img_id if is_known else None for sample, is_known in zip(samples, known)
                ]
                self._sweep.add(ids)
            if self._occlusion is not None:
                self._judge_order(batch, samples)
            for sample, is_known in zip(samples, known):
                if is_known:
                    yield self._image(sample)

    def _image(self, sample: DetDataSample) -> LabelledImage:
        result = PanopticResult.from_sample(sample.cpu(), self.model.dataset_meta)
        segments = [dict(id=s['id'], label=s['category'], score=s['score']) for s in result]
        name, path = self.truth.annotations.images[sample.img_id]['file_name'], sample.img_path
        judgement = judge(self.truth, sample.img_id, path, result.segment_ids, segments)
        image = labelled(name, Path(path), result.segment_ids, segments, None)
        return image._replace(judgement=judgement)

    def _judge_order(self, batch: dict, samples: Sequence[DetDataSample]) -> None:
        try:
            self._occlusion.process(batch, [sample.to_dict() for sample in samples])
        except TypeError as error:
            self.notes.append(f'Nothing of who is in front: {error}.')
            self._occlusion = None

    def numbers(self) -> dict:
        """``order`` of :class:`~mmbanet.evaluation.OcclusionMetric` and ``thresholds``.

        See :meth:`FusionSweep.numbers`; each is None where there is none.
        """
        occlusion, sweep = self._occlusion, self._sweep
        return dict(
            order=None if occlusion is None else occlusion.compute_metrics(occlusion.results),
            thresholds=None if sweep is None else sweep.numbers(),
        )
