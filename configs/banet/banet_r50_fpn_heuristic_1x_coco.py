# The same model and checkpoint without occlusion handling: the higher score is in front (Kirillov
# et al.).
_base_ = 'banet_r50_fpn_1x_coco.py'

model = dict(panoptic_fusion_head=dict(overlap_rule='score'))
