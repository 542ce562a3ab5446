# COCO 2017 with panoptic annotations; section 4.3 of the paper: short side 800, long side at most
# 1333, random crop, horizontal flip.
dataset_type = 'mmbanet.PanopticDataset'
data_root = 'data/coco/'

steps = dict(
    # By mmbanet.LoadImage in a PanopticDataset; mmdet's DetInferencer looks for this name.
    # ignore_empty=True in training leaves out images that cannot be read, with a warning.
    image=dict(type='LoadImageFromFile'),
    annotations=dict(type='mmbanet.LoadPanopticAnnotations'),
    resize=dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    # The paper gives no size for its random crop. Crops without things train semantics.
    crop=dict(
        type='RandomCrop',
        crop_type='relative_range',
        crop_size=(0.7, 0.7),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # Things that the crop has cut off leave an empty mask.
    drop_empty=dict(type='FilterAnnotations', by_box=False, by_mask=True, keep_empty=False),
    flip=dict(type='RandomFlip', prob=0.5),
    pack=dict(type='PackDetInputs'),
    pack_test=dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
)
train_pipeline = list(steps.values())[:-1]
test_pipeline = [steps[name] for name in ('image', 'resize', 'annotations', 'pack_test')]

train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmbanet.PlacedSampler'),
    batch_sampler=dict(type='mmbanet.PlacedAspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        # Masks that overlap, as the paper trains them; None takes those of the PNGs.
        instances_ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        filter_cfg=dict(filter_empty_gt=False, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='mmbanet.PanopticMetric',
        ann_file=data_root + 'annotations/panoptic_val2017.json',
        seg_prefix=data_root + 'annotations/panoptic_val2017/',
        stuff_iou=True,
    ),
    dict(
        type='mmbanet.PanopticInstanceMetric',
        ann_file=data_root + 'annotations/instances_val2017.json',
    ),
]
test_evaluator = val_evaluator
