# Deformable convolutions in the semantic head (DFM), with the loss weights that the paper gives for
# it: PQ 43.0 on COCO val in Table 1.
_base_ = 'banet_r50_fpn_1x_coco.py'

model = dict(
    semantic_head=dict(
        conv_cfg=dict(type='mmbanet.DeformConv2dPack', deform_groups=1),
        loss_seg=dict(loss_weight=0.1),
    ),
    i2s_head=dict(loss_i2s=dict(loss_weight=0.2)),
)
