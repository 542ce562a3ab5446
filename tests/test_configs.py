"""Every config builds; derived ones differ from their base only where they say so."""

import re

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from .conftest import CONFIGS, ROOT

# Those of other models: test_models/test_model_families.py.
ALL = sorted((CONFIGS / 'banet').glob('*.py'))


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_model_builds(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    assert type(model).__name__ == 'BANet'
    for split in ('train', 'val', 'test'):
        assert f'{split}_dataloader' in cfg
        assert f'{split}_cfg' in cfg


def test_paper_settings():
    """Section 4.3 and DESIGN's reading of it, against numbers typed from the paper."""
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py')
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001
    )
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor * 0.02, warmup.end) == (pytest.approx(0.002), 500)
    assert (steps.milestones, steps.gamma) == ([60000, 80000], 0.1)
    assert cfg.train_cfg.max_iters == 90000
    model = cfg.model
    assert model.semantic_head.loss_seg.loss_weight == 0.2
    assert model.i2s_head.loss_i2s.loss_weight == 0.3
    assert model.train_cfg.i2s.gt_share == (0.6, 1.0)
    panoptic = model.test_cfg.panoptic
    assert (panoptic.score_thr, panoptic.nms.iou_threshold) == (0.6, 0.5)
    assert (panoptic.occlusion_thr, panoptic.removal_thr) == (0.2, 0.5)
    assert panoptic.stuff_area_limit == 4096

    assert model.panoptic_fusion_head.type == 'mmbanet.OcclusionAwareFusionHead'
    assert 'overlap_rule' not in model.panoptic_fusion_head  # by default: appearance
    for branch in ('bbox', 'mask'):
        assert model.roi_head[f'{branch}_roi_extractor'].type == 'mmbanet.S2IRoIExtractor'
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert steps['Resize'] == dict(type='Resize', scale=(1333, 800), keep_ratio=True)
    assert {'RandomCrop', 'RandomFlip'} <= set(steps)
    assert cfg.auto_scale_lr.base_batch_size == 16 == 8 * cfg.train_dataloader.batch_size

    built = MODELS.build(model | dict(backbone=model.backbone | dict(init_cfg=None)))
    assert built.roi_head.mask_head.num_convs == 3
    assert built.semantic_head.conv_logits.in_channels == 512
    assert built.i2s_head.ocm.pool_sizes == (1, 2, 4, 8)
    assert built.i2s_head.ocm.project_instances.out_channels == 10

    dfm = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_dfm_1x_coco.py').model
    assert dfm.semantic_head.conv_cfg.type == 'DCN'
    assert dfm.semantic_head.loss_seg.loss_weight == 0.1
    assert dfm.i2s_head.loss_i2s.loss_weight == 0.2


def test_example_of_the_op_in_the_readme_runs():
    readme = (ROOT / 'README.md').read_text()
    (example,) = re.findall(r'```python\n(import torch.*?)```', readme, re.S)
    scope = {}
    exec(example, scope)
    assert scope['inlaid'].shape == (2, 256, 50, 76)
    assert scope['crops'].grad.abs().sum() > 0
