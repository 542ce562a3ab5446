# CamVid, 367 + 101 street frames, at half its size; converted by tools/convert_semantic.py, see
# examples/camvid. Instances are connected components: touching things of one class are one.
_base_ = 'coco_panoptic.py'

data_root = 'data/camvid/'
image_scale = (240, 180)
resize = dict(type='Resize', scale=image_scale, keep_ratio=True)

thing_classes = ['car', 'pedestrian', 'bicyclist', 'sign']
stuff_classes = ['sky', 'building', 'pole', 'road', 'pavement', 'tree', 'fence']
metainfo = dict(
    classes=thing_classes + stuff_classes,
    thing_classes=thing_classes,
    stuff_classes=stuff_classes,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPanopticAnnotations'),
    resize,
    # The smallest things are gone at half the size.
    dict(type='FilterAnnotations', by_box=False, by_mask=True, keep_empty=False),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    batch_sampler=None,  # all images have one size
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        filter_cfg=None,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

truth = dict(
    ann_file=data_root + 'annotations/panoptic_val.json',
    seg_prefix=data_root + 'annotations/panoptic_val/',
)
val_evaluator = [
    dict(type='mmbanet.PanopticMetric', stuff_iou=True, **truth),
    dict(type='mmbanet.PanopticInstanceMetric', **truth),
]
test_evaluator = val_evaluator
del truth
