# Table 2: SIM alone (PQ 39.5); also RoIInlay's row of Table 6.
_base_ = 'banet_r50_fpn_sim_ocm_1x_coco.py'

model = _base_.parts.without_ocm
