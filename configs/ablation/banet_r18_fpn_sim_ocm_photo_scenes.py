# Table 2: SIM and OCM, with mmdet's RoI extractors.
_base_ = 'banet_r18_fpn_sim_ocm_s2i_photo_scenes.py'

model = _base_.parts.without_s2i
