# Duplicates dropped, then order by contour in place of the paper's mean colours. Only inference
# differs: the checkpoint is that of banet_r18_fpn_photo_scenes.
_base_ = 'banet_r18_fpn_photo_scenes.py'

model = _base_.parts.contour
