# Table 6: SIM alone with RoIUpsample in place of RoIInlay.
_base_ = 'banet_r18_fpn_sim_photo_scenes.py'

model = _base_.parts.roi_upsample
