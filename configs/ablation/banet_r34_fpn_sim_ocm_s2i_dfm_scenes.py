# Table 3: the deeper backbone without occlusion handling: the checkpoint of the base config.
_base_ = '../banet/banet_r34_fpn_dfm_scenes.py'

model = _base_.parts.without_oh
