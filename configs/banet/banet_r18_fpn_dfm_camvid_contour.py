# Duplicates dropped, then order by contour in place of the paper's mean colours. Only inference
# differs: the checkpoint is that of banet_r18_fpn_dfm_camvid.
_base_ = 'banet_r18_fpn_dfm_camvid.py'

model = _base_.parts.contour
