# Table 6: SIM alone with RoIUpsample in place of RoIInlay.
_base_ = 'banet_r18_fpn_sim_scenes.py'

model = dict(i2s_head=dict(inlay=dict(type='mmbanet.RoIUpsample')))
