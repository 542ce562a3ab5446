# mmdet's PanopticFPN as it is, measured by the metrics of this package.
_base_ = 'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'

val_evaluator = dict(
    _delete_=True,
    type='mmbanet.PanopticMetric',
    ann_file=_base_.val_evaluator.ann_file,
    seg_prefix=_base_.val_evaluator.seg_prefix,
)
test_evaluator = val_evaluator
