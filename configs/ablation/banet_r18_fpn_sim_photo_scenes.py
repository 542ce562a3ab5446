# Table 2: SIM alone; also RoIInlay's row of Table 6.
_base_ = 'banet_r18_fpn_sim_ocm_photo_scenes.py'

model = _base_.parts.without_ocm
