# CamVid, 367 + 101 street frames, at half its size; converted by mmbanet convert semantic, see
# examples/camvid. Instances are connected components: touching things of one class are one.
_base_ = 'converted_panoptic.py'

data_root = 'data/camvid/'
thing_classes = ['car', 'pedestrian', 'bicyclist', 'sign']
stuff_classes = ['sky', 'building', 'pole', 'road', 'pavement', 'tree', 'fence']
metainfo = dict(
    classes=thing_classes + stuff_classes,
    thing_classes=thing_classes,
    stuff_classes=stuff_classes,
)

steps = dict(_base_.steps, resize=dict(_base_.steps.resize, scale=(240, 180)))
# The smallest things are gone at half the size: drop_empty.
train_pipeline = [
    steps[name] for name in ('image', 'annotations', 'resize', 'drop_empty', 'flip', 'pack')
]
test_pipeline = [steps[name] for name in ('image', 'resize', 'annotations', 'pack_test')]

batch_size_of_scenes = _base_.train_dataloader.batch_size
instances_of_scenes = _base_.train_dataloader.dataset.instances_ann_file
train_dataloader = dict(
    batch_size=4,
    dataset=dict(_base_.png_masks, data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_set = _base_.val_dataloader.dataset
truth = dict(ann_file=data_root + val_set.ann_file, seg_prefix=data_root + val_set.data_prefix.seg)
panoptic_metric = dict(_base_.panoptic_metric, **truth)
val_evaluator = [dict(metric, **truth) for metric in _base_.val_evaluator]
test_evaluator = val_evaluator
del val_set, truth
