"""The transform that reads photographs."""

from __future__ import annotations

import logging

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log

from mmbanet.registry import TRANSFORMS

from .annotation_files import Notices, read_bytes
from .image_files import check_image_header, decode_image


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, which names what it cannot read, and decodes no other size.

    Required Keys:

    - img_path
    - img_id, height and width (optional: what the annotations say of the image)

    Added Keys:

    - img
    - img_shape
    - ori_shape

    Args: as mmcv's, without ``file_client_args``. With ``ignore_empty=True``, training leaves an
        image that cannot be read out with a warning, and takes another one in its place; a
        :class:`PanopticDataset` in ``test_mode`` stops in any case.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no image, cut off, larger than can be trusted, or of another size than
            annotated.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.notices = Notices()

    @property
    def applies_exif(self) -> bool:
        """Whether an image is turned as its EXIF data say."""
        return not self.color_type.endswith('ignore_orientation')

    def transform(self, results: dict) -> dict | None:
        """Loads the image; None if it is to be left out."""
        try:
            image = self._read(results)
        except (OSError, ValueError) as error:
            if not self.ignore_empty:
                raise
            print_log(f'left out: {error}', logger='current', level=logging.WARNING)
            return None
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def _read(self, results: dict) -> np.ndarray:
        path, name = results['img_path'], 'image'
        if 'img_id' in results:
            name = f'image {results["img_id"]}'
        content = read_bytes(path, name, self.backend_args)
        if 'height' in results:
            size = results['height'], results['width']
            check_image_header(path, size, name, self.applies_exif, self.notices, content)
        return decode_image(content, path, self.color_type, self.imdecode_backend)
