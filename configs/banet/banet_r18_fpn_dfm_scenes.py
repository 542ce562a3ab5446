# The small BANet with deformable convolutions in the semantic head (DFM).
_base_ = 'banet_r18_fpn_scenes.py'

model = dict(
    semantic_head=dict(
        conv_cfg=dict(type='mmbanet.DeformConv2dPack', deform_groups=1),
        loss_seg=dict(loss_weight=0.1),
    ),
    i2s_head=dict(loss_i2s=dict(loss_weight=0.2)),
)
