"""The generated scenes as a data set."""

from mmbanet.registry import DATASETS

from .panoptic_dataset import PanopticDataset
from .scenes.classes import METAINFO as SCENES_METAINFO


@DATASETS.register_module()
class ScenesDataset(PanopticDataset):
    """COCO panoptic data with the classes of :mod:`mmbanet.datasets.scenes`."""

    METAINFO = SCENES_METAINFO
