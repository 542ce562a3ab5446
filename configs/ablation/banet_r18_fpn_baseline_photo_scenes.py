# Table 2: the baseline, Mask R-CNN and a semantic head that share a backbone.
_base_ = 'banet_r18_fpn_sim_photo_scenes.py'

model = _base_.parts.without_i2s
