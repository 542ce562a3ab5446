"""Images to panoptic results, with the calls that users of mmdet's ``DetInferencer`` know."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.device import get_device
from tqdm import tqdm

from mmbanet.datasets.panoptic_files import folder_within, write_whole
from mmbanet.visualization.panoptic import class_palette, write_picture
from mmbanet.visualization.picture import draw_panoptic

from .image_sources import Input, SourceImage, count_images, distinct, find_images, open_images
from .inference import Image, check_array, init_model, predict_batch, read_image
from .panoptic_result import PanopticResult

# Longer to shorter side: resized to what a model sees, nothing would be left of a thinner image.
MAX_ELONGATION = 64


class PanopticInferencer:
    """Any panoptic model of mmdet's, ready for images.

    ``inferencer(images)`` returns a dict of lists as ``DetInferencer`` does. ``mmbanet predict`` is
    for whole folders, of which it keeps nothing in memory.

    Args:
        model: Config, see :func:`init_model`.
        weights: Checkpoint, a file or a URL; None: random weights.
        device: Of the model; None: the GPU if there is one.
        cfg_options: Overrides of the config.
        show_progress: Whether a call shows a progress bar.
        max_pixels: Larger images are predicted and drawn reduced to as many, and their maps
            enlarged again: masks and logits have the size of the image, whatever the model sees.

    Raises:
        FileNotFoundError, TypeError, ValueError: As :func:`init_model`.
    """

    def __init__(
        self,
        model: str | PathLike | Config,
        weights: str | PathLike | None = None,
        device: str | torch.device | None = None,
        *,
        cfg_options: dict | None = None,
        show_progress: bool = True,
        max_pixels: int = 2**23,
    ) -> None:
        if max_pixels < 1:
            raise ValueError(f'max_pixels must be 1 at least, got {max_pixels}')
        self.model = init_model(model, weights, device or get_device(), cfg_options)
        self.cfg = self.model.cfg
        self.palette = class_palette(self.model.dataset_meta)
        self.show_progress = show_progress
        self.max_pixels = max_pixels

    def __call__(
        self,
        inputs: Input | Sequence[Input],
        batch_size: int = 1,
        *,
        return_vis: bool = False,
        no_save_vis: bool = False,
        return_datasamples: bool = False,
        print_result: bool = False,
        no_save_pred: bool = True,
        out_dir: str | PathLike = '',
    ) -> dict[str, list | None]:
        """Predictions of images, with the arguments of mmdet's ``DetInferencer``.

        Args:
            inputs: See :func:`mmbanet.apis.image_sources.find_images`; of a webcam, that there is
                an end is up to the caller.
            batch_size: Images in one pass of the model.
            return_vis: Whether to return pictures.
            no_save_vis: Whether to leave ``OUT_DIR/vis/NAME.jpg`` out.
            return_datasamples: Whether to return mmdet's samples, at most ``max_pixels`` large.
            print_result: Whether to print a line for each image.
            no_save_pred: Whether to leave ``OUT_DIR/preds/NAME.json``, the segments, out.
            out_dir: Folder to write to; '': nothing is written.

        Returns:
            ``predictions``, of :class:`PanopticResult` or samples, and ``visualization``, RGB
            pictures or None.

        Raises:
            FileNotFoundError, OSError, TypeError, ValueError: What is no image, or is not there.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be 1 at least, got {batch_size}')
        found = find_images(inputs)
        if out_dir:
            distinct(found)
        predictions, pictures = [], []
        with tqdm(
            total=count_images(found), unit='image', disable=None if self.show_progress else True
        ) as progress:
            for batch in _batches(open_images(found), batch_size):
                samples = self._samples([image for _, image in batch])
                for (item, image), sample in zip(batch, samples):
                    result = self._result(sample, image)
                    predictions.append(sample if return_datasamples else result)
                    if print_result:
                        print(f'{item.source}: {result.summary()}')
                    if out_dir and not no_save_pred:
                        path = Path(out_dir) / 'preds' / f'{item.name}.json'
                        folder_within(Path(out_dir), path.parent)
                        text = json.dumps(list(result), indent=1) + '\n'
                        write_whole(path, lambda partial, text=text: partial.write_text(text))
                    if return_vis or (out_dir and not no_save_vis):
                        picture = self.draw(result, image)
                        if return_vis:
                            pictures.append(picture)
                        if out_dir and not no_save_vis:
                            path = Path(out_dir) / 'vis' / f'{item.name}.jpg'
                            folder_within(Path(out_dir), path.parent)
                            write_picture(path, picture)
                progress.update(len(batch))
        return dict(predictions=predictions, visualization=pictures if return_vis else None)

    def predict(self, image: Image) -> PanopticResult:
        """What the model says of one image, a file or (H, W, 3) uint8 BGR."""
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[PanopticResult]:
        """What the model says of images, in one pass; arguments as of :meth:`predict`."""
        images = [i if isinstance(i, np.ndarray) else read_image(i) for i in images]
        return [self._result(s, image) for s, image in zip(self._samples(images), images)]

    def draw(self, result: PanopticResult, image: np.ndarray) -> np.ndarray:
        """The map over its image (H, W, 3) uint8 BGR: a picture, RGB.

        It has the image's shape, or at most ``max_pixels``.
        """
        image = self._reduced(image)
        panoptic = result.mmdet_ids(image.shape[1::-1])
        image = np.ascontiguousarray(image[..., ::-1])
        return draw_panoptic(image, panoptic, result.classes, self.palette, legend=False)

    def _samples(self, images: Iterable[np.ndarray]) -> list[DetDataSample]:
        images = [self._reduced(check_array(i), MAX_ELONGATION) for i in images]
        return predict_batch(self.model, images)

    def _result(self, sample: DetDataSample, image: np.ndarray) -> PanopticResult:
        return PanopticResult.from_sample(sample, self.model.dataset_meta, image)

    def _reduced(self, image: np.ndarray, max_elongation: float = math.inf) -> np.ndarray:
        """The image with ``max_pixels`` at most, and broadened where it is too thin."""
        height, width = image.shape[:2]
        height, width = max(height, width / max_elongation), max(width, height / max_elongation)
        scale = min(1, (self.max_pixels / (height * width)) ** 0.5)
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        if size == image.shape[1::-1]:
            return image
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _batches(
    images: Iterator[SourceImage], size: int
) -> Iterator[list[tuple[SourceImage, np.ndarray]]]:
    """Images with their pixels, ``size`` at a time."""
    read = ((item, item.read()) for item in images)
    while batch := list(islice(read, size)):
        yield batch
