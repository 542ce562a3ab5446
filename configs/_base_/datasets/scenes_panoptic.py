# Generated scenes of tools/make_scenes.py, in the size in which they are generated.
_base_ = 'converted_panoptic.py'

dataset_type = 'mmbanet.ScenesDataset'
data_root = 'data/scenes/'

steps = dict(_base_.steps, resize=dict(_base_.steps.resize, scale=(128, 128)))
train_pipeline = [steps[name] for name in ('image', 'annotations', 'resize', 'flip', 'pack')]
test_pipeline = [steps[name] for name in ('image', 'resize', 'annotations', 'pack_test')]

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

val_set = _base_.val_dataloader.dataset
truth = dict(ann_file=data_root + val_set.ann_file, seg_prefix=data_root + val_set.data_prefix.seg)
panoptic_metric = dict(_base_.panoptic_metric, **truth)
occlusion_metric = dict(_base_.occlusion_metric, ann_file=truth['ann_file'])
val_evaluator = [*(dict(metric, **truth) for metric in _base_.val_evaluator), occlusion_metric]
test_evaluator = val_evaluator
del val_set, truth
