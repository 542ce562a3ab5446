# Table 6: SIM alone with RoIUpsample in place of RoIInlay (PQ 39.4).
_base_ = 'banet_r50_fpn_sim_1x_coco.py'

model = _base_.parts.roi_upsample
