"""What BANet adds to the RoI head: S2I's crops of F_S, F_ins, and the boxes that I2S trains on."""

from .instance_feature_mask_head import InstanceFeatureMaskHead
from .s2i_roi_extractor import S2IRoIExtractor

__all__ = ['InstanceFeatureMaskHead', 'S2IRoIExtractor']
