"""The drawn scenes as a data set."""

from mmbanet.datasets import PanopticDataset
from mmbanet.registry import DATASETS

from .drawn.classes import METAINFO as SCENES_METAINFO


@DATASETS.register_module()
class ScenesDataset(PanopticDataset):
    """COCO panoptic data with the classes of :mod:`mmbanet.scenes.drawn`."""

    METAINFO = SCENES_METAINFO
