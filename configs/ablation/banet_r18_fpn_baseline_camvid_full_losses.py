# The baseline with its semantic loss at full weight in place of the paper's.
_base_ = 'banet_r18_fpn_baseline_camvid.py'

model = dict(semantic_head=_base_.parts.full_losses.semantic_head)
