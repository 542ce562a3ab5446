"""Mask head of BANet (section 3.1), which also hands out the instance features F_ins."""

from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from torch import Tensor

from mmbanet.registry import MODELS


@MODELS.register_module()
class InstanceFeatureMaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead`` with F_ins, the output of its convs before the upsampling.

    Args: as mmdet's ``FCNMaskHead``; the paper has three convs.
    """

    def __init__(self, num_convs: int = 3, **kwargs) -> None:
        super().__init__(num_convs=num_convs, **kwargs)

    def instance_features(self, x: Tensor) -> Tensor:
        """F_ins (K, conv_out_channels, h, w) of RoI features (K, in_channels, h, w)."""
        for conv in self.convs:
            x = conv(x)
        return x
