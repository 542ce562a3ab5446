# Hybrid task cascade: the cascade with HTC's RoI head, its own semantic branch left out.
_base_ = '../cascade_mask_rcnn/cascade_mask_rcnn_occlusion_aware_r50_fpn_1x_coco.py'

mask_head = dict(_base_.model.roi_head.mask_head, type='HTCMaskHead')

model = dict(
    roi_head=dict(
        type='HybridTaskCascadeRoIHead',
        interleaved=True,
        mask_info_flow=True,
        mask_head=[dict(mask_head, with_conv_res=False), mask_head, mask_head],
    )
)
del mask_head
