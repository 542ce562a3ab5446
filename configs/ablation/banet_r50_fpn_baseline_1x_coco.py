# Table 2: the baseline (PQ 39.1), Mask R-CNN and a semantic head that share a backbone.
_base_ = 'banet_r50_fpn_sim_1x_coco.py'

model = _base_.parts.without_i2s
