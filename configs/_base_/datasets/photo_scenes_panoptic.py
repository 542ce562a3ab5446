# Scenes composed of CamVid's frames by tools/make_scenes.py --photographs, at half their size:
# overlapping masks, and the order is known.
_base_ = 'camvid_panoptic.py'

data_root = 'data/photo_scenes/'

train_dataloader = dict(
    batch_size=_base_.batch_size_of_scenes,
    dataset=dict(data_root=data_root, instances_ann_file=_base_.instances_of_scenes),
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

val_set = _base_.val_dataloader.dataset
truth = dict(ann_file=data_root + val_set.ann_file, seg_prefix=data_root + val_set.data_prefix.seg)
panoptic_metric = dict(_base_.panoptic_metric, **truth)
occlusion_metric = dict(_base_.occlusion_metric, ann_file=truth['ann_file'])
val_evaluator = [*(dict(metric, **truth) for metric in _base_.val_evaluator), occlusion_metric]
test_evaluator = val_evaluator
del val_set, truth
