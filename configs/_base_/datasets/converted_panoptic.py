# Data sets that the tools write, with images of one size, so batches need no sorting.
_base_ = 'custom_panoptic.py'

train_dataloader = dict(
    batch_size=8, num_workers=1, batch_sampler=None, dataset=dict(filter_cfg=None)
)
val_dataloader = dict(num_workers=1)
test_dataloader = val_dataloader

# To choose from; what they are measured against is in the data set.
panoptic_metric = dict(type='mmbanet.PanopticMetric')  # of any panoptic model
occlusion_metric = dict(type='mmbanet.OcclusionMetric')
