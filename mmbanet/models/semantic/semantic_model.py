"""The interface between a detector and a semantic prediction from elsewhere."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

from mmdet.utils import OptMultiConfig
from mmengine.model import BaseModule
from torch import Tensor


class SemanticModel(BaseModule, metaclass=ABCMeta):
    """Gives one class map per image.

    Args:
        num_things_classes: T, the first labels.
        num_stuff_classes: S, the labels after them.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self, num_things_classes: int, num_stuff_classes: int, init_cfg: OptMultiConfig = None
    ) -> None:
        super().__init__(init_cfg)
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes

    @abstractmethod
    def predict(
        self, batch_inputs: Tensor, img_metas: Sequence[dict], rescale: bool
    ) -> list[Tensor]:
        """The class of every pixel.

        Args:
            batch_inputs: (N, 3, H, W), normalised and padded.
            img_metas: N dicts with ``img_path``, ``batch_input_shape``, and ``img_shape`` and
                ``ori_shape`` (h, w).
            rescale: To ``ori_shape`` (True) or to ``img_shape``, the size that the network saw.

        Returns:
            N tensors (1, h, w) int32 on the inputs' device: labels 0..T+S-1, where a thing label
            means any thing; T+S for void, or for any thing.
        """
