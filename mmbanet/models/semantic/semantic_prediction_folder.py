"""Class maps that any other program has written to files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.utils import OptMultiConfig
from PIL import Image
from torch import Tensor

from mmbanet.registry import MODELS

from .semantic_model import SemanticModel

SUFFIXES = ('.png', '.npy')


@MODELS.register_module()
class SemanticPredictionFolder(SemanticModel):
    """Reads one file per image: ``folder / (the image's name without its suffix + suffix)``.

    A file holds one integer per pixel of the original image (H, W): a PNG with one channel (8 or 16
    bits, or the indices of a palette), or an ``.npy`` array. Labels are those of the data set,
    things 0..T-1 first, then stuff T..T+S-1; every other value, such as 255, is void.

    Args:
        folder: Where the files are.
        suffix: End of the files' names, such as ``'_labels.png'``; it ends in .png or .npy.
        num_things_classes: T.
        num_stuff_classes: S.
        init_cfg: MMEngine's; there is nothing to initialise.
    """

    def __init__(
        self,
        folder: str,
        suffix: str = '.png',
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(num_things_classes, num_stuff_classes, init_cfg)
        if not suffix.endswith(SUFFIXES):
            raise ValueError(f'suffix must end in {" or ".join(SUFFIXES)}, got {suffix!r}')
        self.folder = Path(folder)
        self.suffix = suffix

    def predict(
        self, batch_inputs: Tensor, img_metas: Sequence[dict], rescale: bool
    ) -> list[Tensor]:
        """See :meth:`SemanticModel.predict`; the inputs only tell the device.

        Raises:
            FileNotFoundError: An image has no file.
            ValueError: A file does not hold one integer per pixel of the original image, or an
                image came without ``img_path``.
        """
        return [self._predict_single(meta, rescale).to(batch_inputs.device) for meta in img_metas]

    def _predict_single(self, meta: dict, rescale: bool) -> Tensor:
        path = self._path(meta)
        labels = _read(path)
        size = tuple(meta['ori_shape'][:2])
        if labels.shape != size:
            raise ValueError(
                f'{path}: the class map is {_hxw(labels.shape)}, but the image '
                f'{meta["img_path"]} is {_hxw(size)} (height x width)'
            )
        num_classes = self.num_things_classes + self.num_stuff_classes
        labels = np.where((labels < 0) | (labels >= num_classes), num_classes, labels)
        label_map = torch.from_numpy(labels)[None]
        if not rescale:
            label_map = F.interpolate(
                label_map[None].double(), size=meta['img_shape'][:2], mode='nearest-exact'
            )[0]
        return label_map.int()

    def _path(self, meta: dict) -> Path:
        img_path = meta.get('img_path')
        if img_path is None:
            raise ValueError(
                'img_path: a folder of predictions needs the path of each image, got None; load '
                "images with mmbanet.LoadImage and keep 'img_path' in meta_keys of PackDetInputs"
            )
        return self.folder / (Path(img_path).stem + self.suffix)


def _read(path: Path) -> np.ndarray:
    """Labels (H, W) int64."""
    if not path.is_file():
        raise FileNotFoundError(f'no semantic prediction of this image: {path}')
    try:
        if path.suffix == '.npy':  # mapped: a header can claim to be of any size
            labels = np.load(path, mmap_mode='r', allow_pickle=False)
        else:
            with Image.open(path) as image:
                labels = np.asarray(image)
    except (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f'{path}: not readable as a class map ({error})') from None
    if labels.ndim != 2 or labels.dtype.kind not in 'iub':
        raise ValueError(
            f'{path}: a class map has one integer per pixel (H, W), '
            f'got shape {labels.shape} of {labels.dtype}'
        )
    return labels.astype(np.int64)


def _hxw(size: tuple[int, ...]) -> str:
    return 'x'.join(map(str, size))
