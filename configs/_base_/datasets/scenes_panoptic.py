# Generated scenes of tools/make_scenes.py, in the size in which they are generated.
_base_ = 'coco_panoptic.py'

dataset_type = 'mmbanet.ScenesDataset'
data_root = 'data/scenes/'
image_scale = (128, 128)
resize = dict(type='Resize', scale=image_scale, keep_ratio=True)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='mmbanet.LoadPanopticAnnotations'),
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]

train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    batch_sampler=None,  # all images are square
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/panoptic_train.json',
        instances_ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        filter_cfg=None,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
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
# What any panoptic model can be measured by.
panoptic_metric = dict(type='mmbanet.PanopticMetric', **truth)
occlusion_metric = dict(type='mmbanet.OcclusionMetric', ann_file=truth['ann_file'])
val_evaluator = [
    dict(panoptic_metric, stuff_iou=True),
    dict(type='mmbanet.PanopticInstanceMetric', **truth),
    occlusion_metric,
]
test_evaluator = val_evaluator
del truth
