"""BANet: bidirectional learning and occlusion handling for panoptic segmentation (CVPR 2020)."""

__version__ = '0.1.0'
