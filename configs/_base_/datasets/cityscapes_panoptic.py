# Cityscapes with its 19 classes, converted by mmbanet convert cityscapes; instances do not overlap.
# Augmentation as of Panoptic FPN (Kirillov et al., CVPR 2019, section 5): images scaled by 0.5 to
# 2.0, 32 crops of 512x1024 in a batch, 4 on each GPU; tested in full size.
_base_ = 'custom_panoptic.py'

data_root = 'data/cityscapes/'
thing_classes = ['person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle']
stuff_classes = [
    'road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign',
    'vegetation', 'terrain', 'sky',
]  # fmt: skip
palette = [
    (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230),
    (119, 11, 32), (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180),
]  # fmt: skip
metainfo = dict(
    classes=thing_classes + stuff_classes,
    thing_classes=thing_classes,
    stuff_classes=stuff_classes,
    palette=palette,
)

full_size = dict(_base_.steps.resize, scale=(2048, 1024))
steps = dict(
    _base_.steps,
    resize=dict(full_size, type='RandomResize', ratio_range=(0.5, 2.0)),
    crop=dict(_base_.steps.crop, crop_type='absolute', crop_size=(1024, 512)),
)
train_pipeline = list(steps.values())[:-1]
test_pipeline = [steps['image'], full_size, steps['annotations'], steps['pack_test']]

train_dataloader = dict(
    batch_size=32 // 8,
    dataset=dict(_base_.png_masks, data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_set = _base_.val_dataloader.dataset
truth = dict(ann_file=data_root + val_set.ann_file, seg_prefix=data_root + val_set.data_prefix.seg)
val_evaluator = [dict(metric, **truth) for metric in _base_.val_evaluator]
test_evaluator = val_evaluator
del val_set, truth, full_size
