"""Images and crops without things train semantics: nothing on the way drops them."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from PIL import Image

from mmbanet.scenes.drawn.classes import CATEGORIES, METAINFO

from ..conftest import CONFIGS

SEGMENTS = {
    'stuff alone': [('sky', (0, 40, 0, 96)), ('sea', (40, 80, 0, 96))],
    'a small thing': [
        ('sky', (0, 40, 0, 96)),
        ('sea', (40, 80, 0, 96)),
        ('ball', (2, 8, 2, 8)),
    ],
}


def write_dataset(root):
    ids = {category['name']: category['id'] for category in CATEGORIES}
    stuff = iter(METAINFO['stuff_classes'])
    names = {'sky': next(stuff), 'sea': next(stuff), 'ball': METAINFO['thing_classes'][0]}
    images, annotations = [], []
    for folder in ('img', 'seg'):
        (root / folder).mkdir()
    for number, (name, segments) in enumerate(SEGMENTS.items(), 1):
        seg = np.zeros((80, 96, 3), dtype=np.uint8)
        infos = []
        for segment, (category, (top, bottom, left, right)) in enumerate(segments, 1):
            seg[top:bottom, left:right, 0] = 10 * number + segment
            infos.append(
                dict(
                    id=10 * number + segment,
                    category_id=ids[names[category]],
                    bbox=[left, top, right - left, bottom - top],
                    iscrowd=0,
                )
            )
        for info in infos:
            info['area'] = int((seg[..., 0] == info['id']).sum())
        Image.fromarray(seg).save(root / 'seg' / f'{name}.png')
        Image.fromarray(seg * 8).save(root / 'img' / f'{name}.jpg')
        images.append(dict(id=number, file_name=f'{name}.jpg', height=80, width=96))
        annotations.append(dict(image_id=number, file_name=f'{name}.png', segments_info=infos))
    content = dict(images=images, annotations=annotations, categories=CATEGORIES)
    (root / 'ann.json').write_text(json.dumps(content))


@pytest.fixture
def dataset(tmp_path):
    """The COCO config's pipeline and filter on small images."""
    write_dataset(tmp_path)
    cfg = Config.fromfile(CONFIGS / '_base_' / 'datasets' / 'coco_panoptic.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    for transform in pipeline:
        if transform.type == 'Resize':
            transform.scale = (96, 80)
    return DATASETS.build(
        dict(
            type='mmbanet.PanopticDataset',
            data_root=str(tmp_path),
            ann_file='ann.json',
            data_prefix=dict(img='img', seg='seg'),
            metainfo=METAINFO,
            filter_cfg=cfg.train_dataloader.dataset.filter_cfg,
            pipeline=pipeline,
        )
    )


def test_none_is_dropped(dataset):
    assert len(dataset) == 2
    counts = []
    for _ in range(20):
        for i in range(2):
            item = dataset.prepare_data(i)  # None: another image is drawn in its place
            assert item is not None
            counts.append(len(item['data_samples'].gt_instances))
            assert item['data_samples'].gt_sem_seg.sem_seg.unique().numel() > 1
    assert set(counts) == {0, 1}


def test_a_batch_of_stuff_alone_trains(dataset, small_cfg):
    model = MODELS.build(small_cfg.model).train()
    items = [dataset.prepare_data(0) for _ in range(2)]
    batch = {key: [item[key] for item in items] for key in ('inputs', 'data_samples')}
    data = model.data_preprocessor(batch, True)
    total, losses = model.parse_losses(
        model.loss(**{'batch_inputs': data['inputs'], 'batch_data_samples': data['data_samples']})
    )
    total.backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses['loss_seg'] > 0
    assert losses['loss_i2s'] > 0
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
