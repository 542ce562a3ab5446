# Data sets as the tools write them: train/ and val/ with annotations of the same names, and images
# of one size, so batches need no sorting.
_base_ = 'coco_panoptic.py'

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    batch_sampler=None,
    dataset=dict(
        ann_file='annotations/panoptic_train.json',
        instances_ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        filter_cfg=None,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
    ),
)
test_dataloader = val_dataloader

# To choose from; what they are measured against is in the data set.
panoptic_metric = dict(type='mmbanet.PanopticMetric')  # of any panoptic model
occlusion_metric = dict(type='mmbanet.OcclusionMetric')
