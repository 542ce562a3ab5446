"""Images to panoptic results, with the calls that users of mmdet's ``DetInferencer`` know."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.infer import BaseInferencer

from mmbanet.structures import encode_ids
from mmbanet.visualization.panoptic import class_palette, colorize, write_picture

from .inference import Image, init_model, predict, read_image
from .panoptic_result import PanopticResult

# Share of the map in a picture, the rest is the image.
OPACITY = 0.55


class PanopticInferencer(BaseInferencer):
    """Any panoptic model of mmdet's, ready for images.

    ``inferencer(images)`` returns a dict of lists as ``DetInferencer`` does: ``predictions``
    (:class:`PanopticResult`, or mmdet's samples with ``return_datasamples=True``) and
    ``visualization`` (RGB pictures with ``return_vis=True``). ``mmbanet predict`` is for whole
    folders, of which it keeps nothing in memory.

    Args:
        model: Config, see :func:`init_model`.
        weights: Checkpoint, a file or a URL; None: random weights.
        device: Of the model; None: the GPU if there is one.
        cfg_options: Overrides of the config.
        show_progress: Whether a call shows a progress bar.

    Raises:
        FileNotFoundError, TypeError, ValueError: As :func:`init_model`.
    """

    visualize_kwargs = {'return_vis', 'img_out_dir'}  # noqa: RUF012 (the base's contract)
    postprocess_kwargs = set()  # noqa: RUF012

    def __init__(
        self,
        model: str | PathLike | Config,
        weights: str | PathLike | None = None,
        device: str | torch.device | None = None,
        *,
        cfg_options: dict | None = None,
        show_progress: bool = True,
    ) -> None:
        # Not the base's, which reads configs and weights in a way of its own.
        self.model = init_model(model, weights, device or get_device(), cfg_options)
        self.cfg = self.model.cfg
        self.palette = class_palette(self.model.dataset_meta)
        self.show_progress = show_progress

    def predict(self, image: Image) -> PanopticResult:
        """What the model says of one image, a file or (H, W, 3) uint8 BGR."""
        return PanopticResult.from_sample(predict(self.model, image), self.model.dataset_meta)

    def draw(self, result: PanopticResult, image: np.ndarray) -> np.ndarray:
        """The map over its image (H, W, 3) uint8 BGR: a picture of the same shape, RGB."""
        ids = np.full(max((s['id'] for s in result), default=0) + 1, len(result.classes))
        for segment in result:
            instance = segment['id'] if segment['is_thing'] else 0
            ids[segment['id']] = encode_ids(segment['category'], instance)
        colors = colorize(ids[result.segment_ids], self.palette)
        return ((1 - OPACITY) * image[..., ::-1] + OPACITY * colors).astype(np.uint8)

    def _init_pipeline(self, cfg: Config) -> None:
        """:func:`predict` has its own."""

    def preprocess(self, inputs: list[Image], batch_size: int = 1, **kwargs: Any) -> Any:
        """The images, ``batch_size`` at a time."""
        return self._get_chunk_data(iter(inputs), batch_size)

    def forward(self, inputs: list[Image], **kwargs: Any) -> list[DetDataSample]:
        """Predictions of some images."""
        return predict(self.model, list(inputs))

    def visualize(
        self,
        inputs: list[Image],
        preds: list[DetDataSample],
        return_vis: bool = False,
        img_out_dir: str = '',
    ) -> list[np.ndarray] | None:
        """Pictures, returned or written as ``IMG_OUT_DIR/STEM.jpg`` (arrays: ``NUMBER.jpg``)."""
        if not (return_vis or img_out_dir):
            return None
        pictures = []
        for number, (given, sample) in enumerate(zip(inputs, preds)):
            is_array = isinstance(given, np.ndarray)
            image = given if is_array else read_image(given)
            result = PanopticResult.from_sample(sample, self.model.dataset_meta)
            pictures.append(self.draw(result, image))
            if img_out_dir:
                name = f'{number:08}' if is_array else Path(given).stem
                Path(img_out_dir).mkdir(parents=True, exist_ok=True)
                write_picture(Path(img_out_dir) / f'{name}.jpg', pictures[-1])
        return pictures

    def postprocess(
        self,
        preds: list[DetDataSample],
        visualization: list[np.ndarray] | None,
        return_datasamples: bool = False,
    ) -> dict:
        """What a call returns."""
        if not return_datasamples:
            meta = self.model.dataset_meta
            preds = [PanopticResult.from_sample(sample, meta) for sample in preds]
        return dict(predictions=preds, visualization=visualization)
