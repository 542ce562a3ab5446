"""Config and checkpoint to a model, and images to its predictions."""

from __future__ import annotations

import copy
import os.path as osp
import warnings
from functools import partial
from os import PathLike

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import inference_detector
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from mmbanet.datasets.image_files import read_image
from mmbanet.engine.checkpoints import load_whole, use_safe_loaders
from mmbanet.engine.launch import override, read_config
from mmbanet.messages import check_found

from .settled_classes import settle_classes, warn_of_other_classes

Image = str | PathLike | np.ndarray

NO_CHECKPOINT = 'no checkpoint: weights are random, but for those that parts of the config bring'


def init_model(
    config: str | PathLike | Config,
    checkpoint: str | PathLike | None = None,
    device: str | torch.device = 'cpu',
    cfg_options: dict | None = None,
) -> nn.Module:
    """Builds a model for inference.

    What mmdet's ``init_detector`` does, but of a checkpoint all weights must be the model's, the
    classes are those of the config's data set, and the config is left as it is.

    Args:
        config: File, ``mmdet::`` and the name of one of mmdet's, or what was read from one.
        checkpoint: File or URL; None if the parts of the model bring their own, or for random
            weights.
        device: Of the model.
        cfg_options: Overrides of the config, such as ``{'model.test_cfg.rcnn.score_thr': 0.3}``.

    Returns:
        The model, with its config as ``cfg`` and the classes and colours as ``dataset_meta``.

    Raises:
        FileNotFoundError: No such config or checkpoint.
        TypeError: A config that is neither of these.
        ValueError: A checkpoint of another model; a config without model or test_dataloader; a
            device that is not there.
    """
    return build_model(inference_config(config, checkpoint, cfg_options), checkpoint, device)


def inference_config(
    config: str | PathLike | Config,
    checkpoint: str | PathLike | None = None,
    cfg_options: dict | None = None,
) -> Config:
    """A config of its own that a model for inference can be built of.

    Arguments and errors are those of :func:`init_model`.
    """
    if not isinstance(config, (str, PathLike, Config)):
        raise TypeError(f'config must be a path or a Config, got {type(config).__name__}')
    cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config(config)
    check_found('checkpoint', checkpoint)
    override(cfg, cfg_options)
    settle_classes(cfg, checkpoint)
    missing = [part for part in ('model', 'test_dataloader') if cfg.get(part) is None]
    if missing:
        raise ValueError(
            f'config: {" and ".join(missing)} must be there: the data set of test_dataloader names '
            'the classes, and its pipeline prepares the images'
        )
    return cfg


def build_model(
    cfg: Config, checkpoint: str | PathLike | None, device: str | torch.device
) -> nn.Module:
    """The model of :func:`init_model`, of a config of :func:`inference_config`."""
    check_device(device)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    use_safe_loaders()
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.cfg = cfg
    model.dataset_meta = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True)).metainfo
    if checkpoint is None:
        warnings.warn(NO_CHECKPOINT, stacklevel=2)
    else:
        load = partial(load_checkpoint, model)
        content = load_whole(load, str(checkpoint), map_location='cpu')
        warn_of_other_classes(checkpoint, content, model.dataset_meta)
    return model.to(device).eval()


def check_device(device: str | torch.device) -> None:
    """Raises a ValueError for a device that torch does not know, or that is not there."""
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(f'device {device} cannot be used: {reason}') from error


def predict(
    model: nn.Module, images: Image | list[Image] | tuple[Image, ...]
) -> DetDataSample | list[DetDataSample]:
    """Predictions for images, by the test pipeline of the model's config.

    Args:
        model: Of :func:`init_model`.
        images: An image file, or an image (H, W, 3) uint8 BGR, as OpenCV reads it; or several.

    Returns:
        Predictions on the CPU in pixels of the image; a list of several images'.

    Raises:
        FileNotFoundError: No such image.
        TypeError: An image that is neither a path nor an array.
        ValueError: A file or an array that is not an image.
    """
    if not isinstance(images, (list, tuple)):
        return predict(model, [images])[0]
    images = [_checked(image) for image in images]
    pipelines = {kind: inference_pipeline(model.cfg, kind) for kind in {type(i) for i in images}}
    return [inference_detector(model, i, pipelines[type(i)]).cpu() for i in images]


def inference_pipeline(cfg: Config, kind: type) -> Compose:
    """The test pipeline without annotations, for paths (``str``) or arrays."""
    steps = []
    for step in get_test_pipeline_cfg(cfg):
        # MMEngine's pure Python configs have the class itself.
        name = getattr(step['type'], '__name__', step['type'])
        if name.endswith('Annotations'):
            continue
        if kind is np.ndarray and name.endswith(('LoadImage', 'LoadImageFromFile')):
            step = dict(step, type='mmdet.LoadImageFromNDArray')
        steps.append(step)
    return Compose(steps)


def _checked(image: Image) -> str | np.ndarray:
    """An image as mmdet takes it."""
    if isinstance(image, np.ndarray):
        return check_array(image)
    if not isinstance(image, (str, PathLike)):
        raise TypeError(f'images must be paths or NumPy arrays, got {type(image).__name__}')
    path = str(image)
    if not osp.isfile(path):
        raise FileNotFoundError(f'image not found: {osp.abspath(path)}')
    read_image(path)
    return path


def check_array(image: np.ndarray) -> np.ndarray:
    """The image, if it is one: (H, W, 3) uint8; else raises a ValueError."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            'images must be of the shape (H, W, 3) and of the dtype uint8, in BGR, got '
            f'{image.shape} and {image.dtype}'
        )
    return image
