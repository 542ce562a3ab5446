# A data set of one's own, as mmbanet convert writes it: train/ and val/ with annotations of the
# same names, in data_root.
_base_ = 'coco_panoptic.py'

data_root = 'data/custom/'
png_masks = dict(instances_ann_file=None)  # for data without instance annotations

train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/panoptic_train.json',
        instances_ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
    ),
)
test_dataloader = val_dataloader

truth = dict(
    ann_file=data_root + val_dataloader['dataset']['ann_file'],
    seg_prefix=data_root + val_dataloader['dataset']['data_prefix']['seg'],
)
val_evaluator = [dict(metric, **truth) for metric in _base_.val_evaluator]
test_evaluator = val_evaluator
del truth
