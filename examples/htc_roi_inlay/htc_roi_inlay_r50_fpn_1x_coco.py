"""mmdet's hybrid task cascade; its semantic branch gets the mask features by RoIInlay."""

_base_ = 'mmdet::htc/htc_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['inlay_htc_roi_head'], allow_failed_imports=False)

model = dict(
    roi_head=dict(
        type='InlayHTCRoIHead',
        # The semantic features have stride 8.
        inlay=dict(type='mmbanet.RoIInlay', spatial_scale=1 / 8),
        inlay_score_thr=0.5,
    )
)
