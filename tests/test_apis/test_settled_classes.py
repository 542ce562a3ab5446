"""A config takes its classes from annotations or from a checkpoint, with all that follows."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS

from mmbanet.apis.settled_classes import settle_classes
from mmbanet.engine.class_count_hook import check_class_counts

from ..conftest import CONFIGS

CUSTOM = CONFIGS / 'banet' / 'banet_r50_fpn_1x_custom.py'
CATEGORIES = [
    dict(id=5, name='sea', isthing=0, color=[1, 2, 3]),
    dict(id=9, name='cat', isthing=1, color=[4, 5, 6]),
    dict(id=2, name='dog', isthing=1, color=[7, 8, 9]),
]
METAINFO = dict(
    classes=['cat', 'dog', 'sea'],
    thing_classes=['cat', 'dog'],
    stuff_classes=['sea'],
    palette=[(4, 5, 6), (7, 8, 9), (1, 2, 3)],
)


def write(root, split='train', categories=CATEGORIES) -> None:
    segment = dict(id=1, category_id=9, iscrowd=0, area=4, bbox=[0, 0, 2, 2])
    content = dict(
        images=[dict(id=1, file_name='a.jpg', height=32, width=32)],
        annotations=[dict(image_id=1, file_name='a.png', segments_info=[segment])],
        categories=categories,
    )
    for folder in (f'annotations/panoptic_{split}', split):
        (root / folder).mkdir(parents=True)
    (root / 'annotations' / f'panoptic_{split}.json').write_text(json.dumps(content))


def build(cfg: Config):
    """A narrow model, without downloads."""
    cfg.model.backbone.update(init_cfg=None, base_channels=8, stem_channels=8)
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    cfg.model.roi_head.bbox_head.fc_out_channels = 8
    return MODELS.build(cfg.model)


def settled(root, checkpoint=None) -> Config:
    cfg = Config.fromfile(CUSTOM)
    cfg.data_root = str(root)
    settle_classes(cfg, checkpoint)
    return cfg


def test_classes_and_all_that_follows_from_them_are_those_of_the_annotations(tmp_path):
    write(tmp_path)
    write(tmp_path, 'val', CATEGORIES[::-1])
    cfg = settled(tmp_path)
    assert not cfg.classes_from_annotations
    assert (cfg.num_things_classes, cfg.num_stuff_classes) == (2, 1)
    check_class_counts(build(cfg), 2, 1)
    assert cfg.train_dataloader.dataset.instances_ann_file is None
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        metainfo = DATASETS.build(dict(loader.dataset, lazy_init=True)).metainfo
        assert {key: metainfo[key] for key in METAINFO} == METAINFO
    for evaluator in (*cfg.val_evaluator, *cfg.test_evaluator):
        assert evaluator.ann_file == str(tmp_path / 'annotations' / 'panoptic_val.json')
    before = cfg.copy()
    settle_classes(cfg)  # is done
    assert cfg.to_dict() == before.to_dict()


@pytest.mark.parametrize(
    ('wrapper', 'roots'),
    [
        (dict(type='RepeatDataset', times=3), ['.', '.', '.']),
        (dict(type='ClassBalancedDataset', oversample_thr=0.1), ['.']),
        (dict(type='ConcatDataset'), ['.', 'more']),
    ],
)
def test_data_sets_of_data_sets(tmp_path, wrapper, roots):
    for root in set(roots):
        write(tmp_path / root)
    cfg = Config.fromfile(CUSTOM)
    inner = cfg.train_dataloader.dataset
    if len(set(roots)) > 1:
        wrapped = dict(datasets=[dict(inner, data_root=cfg.data_root + root) for root in roots])
    else:
        wrapped = dict(dataset=inner)
    cfg.train_dataloader.dataset = {**wrapper, **wrapped}
    cfg.data_root = str(tmp_path)
    settle_classes(cfg)
    data = DATASETS.build(cfg.train_dataloader.dataset)
    data.full_init()
    assert {key: data.metainfo[key] for key in METAINFO} == METAINFO
    found = [data.get_data_info(index) for index in range(len(data))]
    images = [str((tmp_path / root / 'train' / 'a.jpg').resolve()) for root in roots]
    assert [str(Path(info['img_path']).resolve()) for info in found] == images
    assert [info['segments_info'][0]['category'] for info in found] == [0] * len(roots)


def test_instance_annotations_that_are_there_are_used(tmp_path):
    write(tmp_path)
    (tmp_path / 'annotations' / 'instances_train.json').write_text('{}')
    instances = settled(tmp_path).train_dataloader.dataset.instances_ann_file
    assert instances == 'annotations/instances_train.json'


def test_a_checkpoint_knows_its_classes_without_data(tmp_path):
    path = tmp_path / 'checkpoint.pth'
    state = dict(weight=torch.zeros(1))
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=METAINFO)), path)
    cfg = settled(tmp_path, path)
    assert cfg.test_dataloader.dataset.metainfo == METAINFO
    torch.save(dict(state_dict=state), path)
    with pytest.raises(FileNotFoundError, match=r'panoptic_train\.json, which names the classes'):
        settled(tmp_path, path)
    write(tmp_path, 'val')
    assert settled(tmp_path, path).test_dataloader.dataset.metainfo == METAINFO


def test_annotations_without_things_are_refused(tmp_path):
    write(tmp_path, categories=[dict(c, isthing=0) for c in CATEGORIES])
    with pytest.raises(ValueError, match='thing_classes is empty'):
        settled(tmp_path)


def test_other_configs_stay_as_they_are():
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    before = cfg.copy()
    settle_classes(cfg)
    assert cfg.to_dict() == before.to_dict()


@pytest.mark.parametrize(
    'name', ['htc/htc_occlusion_aware_r50_fpn_1x_coco.py', 'oanet/oanet_r50_fpn_1x_coco.py']
)
def test_other_models_settle_likewise(tmp_path, name):
    """Heads in a list, and heads of other names."""
    write(tmp_path)
    cfg = Config.fromfile(CUSTOM)
    cfg.model = Config.fromfile(CONFIGS / name).model
    cfg.data_root = str(tmp_path)
    settle_classes(cfg)
    cfg.model.backbone.init_cfg = None
    check_class_counts(MODELS.build(cfg.model), 2, 1)
