"""Meta information of images as the detectors use it."""

from collections.abc import Sequence

from mmdet.structures import DetDataSample
from mmdet.utils import InstanceList


def without_padding(sample: DetDataSample) -> DetDataSample:
    """A copy of the sample whose ``img_shape`` is that of the image alone.

    mmdet's ``Pad`` in a pipeline makes its padding a part of ``img_shape``, but no box, mask or
    label of the original image lies there. ``scale_factor`` tells the size before; without it, the
    sample is taken to have no such padding.
    """
    sample = sample.new()
    meta = sample.metainfo
    if 'scale_factor' in meta:
        scale_w, scale_h = meta['scale_factor'][:2]
        height, width = meta['ori_shape'][:2]
        content = round(height * scale_h), round(width * scale_w)
        img_shape = tuple(min(sizes) for sizes in zip(content, meta['img_shape'][:2]))
        sample.set_metainfo(dict(img_shape=img_shape))
    return sample


def with_scale_factors(instances: InstanceList, img_metas: Sequence[dict]) -> InstanceList:
    """Copies of the instances, which know how much larger the network's input was: (w, h)."""
    return [
        item.new(metainfo=dict(scale_factor=meta['scale_factor']))
        for item, meta in zip(instances, img_metas)
    ]
