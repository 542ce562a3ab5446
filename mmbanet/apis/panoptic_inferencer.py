"""Images to panoptic results, with the calls that users of mmdet's ``DetInferencer`` know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from torch import nn
from tqdm import tqdm

from mmbanet.datasets.panoptic_files import folder_within, write_whole
from mmbanet.visualization.panoptic import class_palette, write_picture
from mmbanet.visualization.picture import draw_panoptic

from .image_sources import Input, SourceImage, count_images, distinct, find_images, open_images
from .inference import (
    Image,
    build_model,
    check_array,
    inference_config,
    inference_pipeline,
    read_image,
)
from .panoptic_result import PanopticResult

# Longer to shorter side: resized to what a model sees, nothing would be left of a thinner image.
MAX_ELONGATION = 64

# An image with what is known of where it came from.
Source = tuple[SourceImage, np.ndarray]


class PanopticInferencer(BaseInferencer):
    """Any panoptic model of mmdet's, ready for images.

    ``inferencer(images)`` returns a dict of lists as ``DetInferencer`` does. ``mmbanet predict`` is
    for whole folders, of which it keeps nothing in memory.

    Args:
        model: Config, see :func:`init_model`, or a name or alias of the metafiles of this package
            or of mmdet, as ``DetInferencer`` takes it.
        weights: Checkpoint, a file or a URL; None: those of the metafile, or random ones.
        device: Of the model; None: the GPU if there is one.
        cfg_options: Overrides of the config.
        show_progress: Whether a call shows a progress bar.
        max_pixels: Larger images are predicted and drawn reduced to as many, and their maps
            enlarged again: masks and logits have the size of the image, whatever the model sees.

    Raises:
        FileNotFoundError, TypeError, ValueError: As :func:`init_model`; a name that there is not.
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
        if isinstance(model, str) and not (Path(model).suffix == '.py' or Path(model).is_file()):
            model, named_weights = self._load_model_from_metafile(model)
            weights = weights or named_weights
        cfg = inference_config(model, weights, cfg_options)
        self.max_pixels = max_pixels
        super().__init__(cfg, weights, device, cfg.get('default_scope', 'mmdet'), show_progress)
        self.palette = class_palette(self.model.dataset_meta)

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
        done = dict(predictions=[], visualization=[] if return_vis else None)
        with tqdm(
            total=count_images(found), unit='image', disable=None if self.show_progress else True
        ) as progress:
            for batch, data in self.preprocess(open_images(found), batch_size):
                samples = self.forward(data)
                results = self._results(samples, [image for _, image in batch])
                pictures = self.visualize(
                    batch, results, return_vis, '' if no_save_vis else out_dir
                )
                results = self.postprocess(
                    results, pictures, batch, print_result, '' if no_save_pred else out_dir
                )
                done['predictions'] += samples if return_datasamples else results['predictions']
                if return_vis:
                    done['visualization'] += results['visualization']
                progress.update(len(batch))
        return done

    def predict(self, image: Image) -> PanopticResult:
        """What the model says of one image, a file or (H, W, 3) uint8 BGR."""
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[Image]) -> list[PanopticResult]:
        """What the model says of images, in one pass; arguments as of :meth:`predict`."""
        images = [i if isinstance(i, np.ndarray) else read_image(i) for i in images]
        return self._results(self.forward(self._collated(images)), images)

    def draw(self, result: PanopticResult, image: np.ndarray) -> np.ndarray:
        """The map over its image (H, W, 3) uint8 BGR: a picture, RGB.

        It has the image's shape, or at most ``max_pixels``.
        """
        image = self._reduced(image)
        panoptic = result.mmdet_ids(image.shape[1::-1])
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return draw_panoptic(image, panoptic, result.classes, self.palette, legend=False)

    def preprocess(
        self, inputs: Iterable[SourceImage], batch_size: int = 1
    ) -> Iterator[tuple[list[Source], dict]]:
        """Images with their pixels, ``batch_size`` at a time, and as :meth:`forward` takes them."""
        for batch in self._get_chunk_data(((item, item.read()) for item in inputs), batch_size):
            yield batch, self._collated([image for _, image in batch])

    def forward(self, inputs: dict) -> list[DetDataSample]:
        """The model's predictions, on the CPU."""
        return [sample.cpu() for sample in super().forward(inputs)]

    def visualize(
        self,
        inputs: Sequence[Source],
        preds: Sequence[PanopticResult],
        return_vis: bool = False,
        img_out_dir: str | PathLike = '',
    ) -> list[np.ndarray] | None:
        """Pictures, RGB, if they are to be returned; ``IMG_OUT_DIR/vis`` gets them, too."""
        if not (return_vis or img_out_dir):
            return None
        pictures = [self.draw(result, image) for result, (_, image) in zip(preds, inputs)]
        if img_out_dir:
            for picture, (item, _) in zip(pictures, inputs):
                write_picture(_file_in(img_out_dir, f'vis/{item.name}.jpg'), picture)
        return pictures if return_vis else None

    def postprocess(
        self,
        preds: Sequence[PanopticResult],
        visualization: Sequence[np.ndarray] | None,
        inputs: Sequence[Source] = (),
        print_result: bool = False,
        pred_out_dir: str | PathLike = '',
    ) -> dict[str, Sequence | None]:
        """Both as a dict; prints the results and writes them to ``PRED_OUT_DIR/preds``."""
        for result, (item, _) in zip(preds, inputs):
            if print_result:
                print(f'{item.source}: {result.summary()}')
            if pred_out_dir:
                text = json.dumps(list(result), indent=1) + '\n'
                path = _file_in(pred_out_dir, f'preds/{item.name}.json')
                write_whole(path, lambda partial, text=text: partial.write_text(text))
        return dict(predictions=preds, visualization=visualization)

    def _load_model_from_metafile(self, model: str) -> tuple[Config, str | None]:
        """The config of a model's name or alias, and the URL of its weights if it has any."""
        names = set()
        for scope in ('mmbanet', 'mmdet'):
            folder = self._get_repo_or_mim_dir(scope)
            for entry in self._get_models_from_metafile(folder):
                aliases = entry.get('Alias', [])
                aliases = [aliases] if isinstance(aliases, str) else aliases
                if model.lower() in (name.lower() for name in (entry['Name'], *aliases)):
                    weights = entry.get('Weights')
                    return (
                        Config.fromfile(Path(folder, entry['Config'])),
                        weights[0] if isinstance(weights, list) else weights,
                    )
                names |= {entry['Name'], *aliases}
        near = ', '.join(get_close_matches(model, names)) or 'none'
        raise ValueError(
            f"{model} is neither a config's file nor a model of mmbanet's and mmdet's metafiles; "
            f'similar names: {near}'
        )

    def _init_model(
        self, cfg: Config, weights: str | PathLike | None, device: str | torch.device
    ) -> nn.Module:
        return build_model(cfg, weights, device)

    def _init_pipeline(self, cfg: Config) -> Compose:
        return inference_pipeline(cfg, np.ndarray)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> None:
        """None: :meth:`draw` needs no backends."""

    def _collated(self, images: Iterable[np.ndarray]) -> dict:
        """What the model takes of images (H, W, 3) uint8 BGR."""
        images = [self._reduced(check_array(image), MAX_ELONGATION) for image in images]
        return self.collate_fn([self.pipeline(dict(img=i, img_id=n)) for n, i in enumerate(images)])

    def _results(
        self, samples: Sequence[DetDataSample], images: Sequence[np.ndarray]
    ) -> list[PanopticResult]:
        meta = self.model.dataset_meta
        return [PanopticResult.from_sample(s, meta, i) for s, i in zip(samples, images)]

    def _reduced(self, image: np.ndarray, max_elongation: float = math.inf) -> np.ndarray:
        """The image with ``max_pixels`` at most, and broadened where it is too thin."""
        height, width = image.shape[:2]
        height, width = max(height, width / max_elongation), max(width, height / max_elongation)
        scale = min(1, (self.max_pixels / (height * width)) ** 0.5)
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        if size == image.shape[1::-1]:
            return image
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _file_in(folder: str | PathLike, name: str) -> Path:
    """Where to write a file, whose folder is there then."""
    path = Path(folder) / name
    folder_within(Path(folder), path.parent)
    return path
