"""The scenes' instance masks, which include the small things on top, through the one data set."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.scenes import SMALL_THINGS, generate_scenes

IMAGES = 24


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=IMAGES, val=1, size=64)


def build(cfg: Config, root, **overrides):
    """The training data of a config, as far as the loader's transforms go."""
    dataset = dict(cfg.train_dataloader.dataset, data_root=str(root), **overrides)
    dataset['pipeline'] = dataset['pipeline'][:2]
    return DATASETS.build(dataset)


def expected_masks(root, index: int) -> list[np.ndarray]:
    """Pixel by pixel from the panoptic files: a thing's own, and those of small things on it."""
    content = json.loads((root / 'annotations' / 'panoptic_train.json').read_text())
    name_of = {category['id']: category['name'] for category in content['categories']}
    things = {category['id'] for category in content['categories'] if category['isthing']}
    annotation = content['annotations'][index]
    folder = root / 'annotations' / 'panoptic_train'
    owner = rgb2id(np.array(Image.open(folder / annotation['file_name'])))
    by_id = {part['id']: part for part in annotation['segments_info']}
    masks = []
    for part in annotation['segments_info']:
        if part['category_id'] not in things:
            continue
        full = coco_mask.decode(part['amodal_rle'])
        mask = np.zeros(owner.shape, np.uint8)
        for y, x in np.ndindex(*owner.shape):
            seen = by_id[owner[y, x]]
            small = name_of[seen['category_id']] in SMALL_THINGS
            mask[y, x] = seen is part or (full[y, x] and small)
        masks.append(mask)
    return masks


def test_masks_include_the_small_things_in_front_and_nothing_else(root, small_cfg):
    dataset = build(small_cfg, root)
    visible_only = build(small_cfg, root, instances_ann_file=None)
    assert len(dataset) == IMAGES
    grown = 0
    for index in range(IMAGES):
        found, visible = dataset[index], visible_only[index]
        expected = expected_masks(root, index)
        assert len(found['gt_masks']) == len(found['gt_bboxes']) == len(expected)
        boxes = found['gt_bboxes'].tensor.numpy()
        for mask, box, want in zip(found['gt_masks'].masks, boxes, expected):
            assert (mask == want).all()
            ys, xs = np.nonzero(want)
            assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert (found['gt_bboxes_labels'] == visible['gt_bboxes_labels']).all()
        assert (found['gt_seg_map'] == visible['gt_seg_map']).all()
        grown += int((found['gt_masks'].masks != visible['gt_masks'].masks).any((1, 2)).sum())
    assert grown > IMAGES / 4


def test_scenes_of_before_say_how_to_make_them_anew(tmp_path, small_cfg):
    root = generate_scenes(tmp_path / 'scenes', train=1, val=1, size=64, workers=1)
    (root / 'annotations' / 'instances_train.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'instances_train\.json.*make_scenes\.py'):
        build(small_cfg, root)
    record = root / 'scenes.json'
    record.write_text(json.dumps(json.loads(record.read_text()) | dict(version=1)))
    with pytest.raises(
        FileExistsError, match=r'instances_train\.json is gone .*: delete the folder'
    ):
        generate_scenes(root, train=1, val=1, size=64, workers=1)


def test_two_iterations(root, small_cfg):
    small_cfg.model.backbone.init_cfg = None
    loader = small_cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.dataset.data_root = str(root)
    model = MODELS.build(small_cfg.model).train()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    batches = iter(Runner.build_dataloader(loader, seed=0))
    for _ in range(2):
        losses = model.train_step(next(batches), optimizer)
        assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
        assert losses['loss_mask'] > 0
