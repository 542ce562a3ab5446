"""The batch's images as RGB again: occlusion handling compares colours (section 3.3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from torch import Tensor


def rgb_images(
    batch_inputs: Tensor,
    data_preprocessor: ImgDataPreprocessor,
    img_metas: Sequence[dict],
    rescale: bool,
) -> list[Tensor]:
    """De-normalised images without padding.

    Args:
        batch_inputs: (N, 3, H, W) as the data preprocessor made it.
        data_preprocessor: Holds the mean and standard deviation that were applied. Images are taken
            to be loaded as BGR, mmcv's default, so that a preprocessor that converts yields RGB.
        img_metas: N dicts with ``img_shape`` and ``ori_shape`` (h, w).
        rescale: To ``ori_shape`` (True) or left in the network's input size.

    Returns:
        N tensors (3, h, w), RGB in 0..255.

    Raises:
        TypeError: The data preprocessor is of another kind.
    """
    if not isinstance(data_preprocessor, ImgDataPreprocessor):
        raise TypeError(
            'data_preprocessor must be an ImgDataPreprocessor, such as DetDataPreprocessor, which '
            f'tells how images were normalised, got {type(data_preprocessor).__name__}'
        )
    images = batch_inputs.float()
    if data_preprocessor._enable_normalize:
        images = images * data_preprocessor.std + data_preprocessor.mean
    if not data_preprocessor._channel_conversion:
        images = images.flip(1)
    images = images.clamp(0, 255)

    unpadded = []
    for image, meta in zip(images.split(1), img_metas):
        height, width = meta['img_shape'][:2]
        image = image[..., :height, :width]
        if rescale:
            size = meta['ori_shape'][:2]
            image = F.interpolate(image, size=size, mode='bilinear', align_corners=False)
        unpadded.append(image[0])
    return unpadded
