"""COCO panoptic data, checked before the first image is read."""

import os.path as osp

import cv2
import numpy as np
from mmdet.datasets import CocoPanopticDataset
from mmdet.datasets.api_wrappers import COCOPanoptic
from panopticapi.utils import rgb2id

from mmbanet.registry import DATASETS
from mmbanet.structures import encode_ids


@DATASETS.register_module()
class PanopticDataset(CocoPanopticDataset):
    """mmdet's ``CocoPanopticDataset``, which refuses what would silently train a wrong model.

    mmdet numbers the labels in the order of the annotation file's categories, while heads and
    metrics assume the order of the metainfo's classes, things before stuff.

    Args: as mmdet's ``CocoPanopticDataset``.

    Raises:
        FileNotFoundError: A folder or the annotation file is missing.
        ValueError: The file is not in the panoptic format, or its categories are not the metainfo's
            classes in their order, things first.
    """

    def load_data_list(self) -> list[dict]:
        """Loads the annotations, with their paths checked first."""
        paths = {'annotation file': self.ann_file}
        paths.update({f'{key} folder': path for key, path in self.data_prefix.items() if path})
        for what, path in paths.items():
            # Remote storage ("s3://...") is left to its backend.
            if '://' not in path and not osp.exists(path):
                raise FileNotFoundError(
                    f'{what} not found: {osp.abspath(path)}. Put the data set there, or say where '
                    'it is: data_root in the config, or --data-root of tools/train.py and test.py'
                )
        return super().load_data_list()

    def COCOAPI(self, annotation_file: str) -> COCOPanoptic:
        """Reads the annotation file and checks its categories."""
        try:
            coco = COCOPanoptic(annotation_file)
        except KeyError as error:
            raise ValueError(
                f'{annotation_file}: no COCO panoptic annotations, {error} is missing (instances '
                'and panoptic annotations are different files)'
            ) from error
        check_categories(list(coco.cats.values()), self.metainfo, annotation_file)
        return coco


def check_categories(categories: list[dict], metainfo: dict, source: str) -> None:
    """Raises a ValueError unless the categories are the metainfo's classes, things first.

    Args:
        categories: COCO categories in the file's order, with ``name`` and ``isthing``.
        metainfo: Holds ``classes``, ``thing_classes`` and ``stuff_classes``.
        source: The file they come from, for the message.
    """
    isthing = [bool(category['isthing']) for category in categories]
    if isthing != sorted(isthing, reverse=True):
        first_stuff = categories[isthing.index(False)]['name']
        late_thing = categories[len(isthing) - 1 - isthing[::-1].index(True)]['name']
        raise ValueError(
            f'{source}: categories must list all things before all stuff, because labels are '
            f'numbered in this order; stuff "{first_stuff}" comes before thing "{late_thing}". '
            'Reorder "categories" in the file'
        )
    expected = [*metainfo['thing_classes'], *metainfo['stuff_classes']]
    if list(metainfo['classes']) != expected:
        raise ValueError('metainfo: classes must be thing_classes followed by stuff_classes')
    names = [category['name'] for category in categories]
    if names != expected:
        index = next(
            (i for i, (name, want) in enumerate(zip(names, expected)) if name != want),
            min(len(names), len(expected)),
        )
        raise ValueError(
            f'{source}: expected the {len(expected)} classes of the metainfo in their order, got '
            f'{len(names)} categories; the first difference is at position {index}: expected '
            f'{expected[index : index + 1]}, got {names[index : index + 1]}'
        )
    if sum(isthing) != len(metainfo['thing_classes']):
        raise ValueError(
            f'{source}: {sum(isthing)} categories are things, the metainfo has '
            f'{len(metainfo["thing_classes"])} thing_classes'
        )


def load_panoptic_map(info: dict) -> np.ndarray:
    """The annotated segments of an image in the encoding of mmdet's panoptic predictions.

    Args:
        info: As of a panoptic data set's ``get_data_info``.

    Returns:
        (H, W) int64, see :func:`encode_ids`; -1 where nothing is annotated.

    Raises:
        ValueError: The PNG is missing or not readable.
    """
    bgr = cv2.imread(info['seg_map_path'])
    if bgr is None:
        raise ValueError(f'not readable as a PNG: {osp.abspath(info["seg_map_path"])}')
    ids = rgb2id(bgr[..., ::-1])
    segments = np.full(ids.shape, -1, dtype=np.int64)
    for number, segment in enumerate(info['segments_info'], start=1):
        instance = number if segment['is_thing'] else 0
        segments[ids == segment['id']] = encode_ids(segment['category'], instance)
    return segments
