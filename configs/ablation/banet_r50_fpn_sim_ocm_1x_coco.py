# Table 2: SIM and OCM, with mmdet's RoI extractors.
_base_ = 'banet_r50_fpn_sim_ocm_s2i_1x_coco.py'

model = _base_.parts.without_s2i
