# Table 2: the baseline, Mask R-CNN and a semantic head that share a backbone.
_base_ = 'banet_r18_fpn_sim_scenes.py'

model = dict(i2s_head=None, semantic_head=dict(loss_seg=dict(loss_weight=0.5)))
