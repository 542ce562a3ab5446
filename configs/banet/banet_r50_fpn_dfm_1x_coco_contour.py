# Duplicates dropped, then order by contour in place of the paper's mean colours. Only inference
# differs: the checkpoint is that of banet_r50_fpn_dfm_1x_coco.
_base_ = 'banet_r50_fpn_dfm_1x_coco.py'

model = _base_.parts.contour
