"""The configs of fusion by logits train and test; what the head needs is refused where it lacks."""

import math
from contextlib import contextmanager

import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from mmbanet.models import LogitFusionHead
from mmbanet.models.detectors import banet
from mmbanet.models.roi.mask_logits import recorded_calls

from ...conftest import CONFIGS, make_sample, run_on_two_ranks
from ..families import narrow, occlusion_aware, panoptic_fpn, with_cascade

FOLDERS = ('upsnet', 'efficientps', 'jsis', 'panoptic_segformer')
ALL = sorted(path for folder in FOLDERS for path in (CONFIGS / folder).glob('*.py'))


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_nobody_is_asked_who_is_in_front(path):
    """Fusion by logits has no answer, and the metric would stop the test."""
    metrics = Config.fromfile(path).test_evaluator
    metrics = metrics if isinstance(metrics, list) else [metrics]
    assert 'mmbanet.OcclusionMetric' not in [metric.type for metric in metrics]


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_trains_and_tests(path):
    model = MODELS.build(narrow(path)).train()
    counts = dict(num_things_classes=model.num_things_classes, num_classes=model.num_classes)
    batch = dict(
        inputs=[torch.randint(0, 256, (3, 96, 96)).byte()],
        data_samples=[make_sample(96, 96, **counts)],
    )
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    for _ in range(2):
        losses = model.train_step(batch, optimizer)
        assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
    for name in ('loss_panoptic', 'loss_roi'):
        assert (name in losses) == ('upsnet' in path.stem)
    sample = make_sample(96, 96, **counts)
    sample.set_metainfo(dict(ori_shape=(70, 80), scale_factor=(96 / 80, 96 / 70)))
    result = model.test_step(dict(inputs=batch['inputs'], data_samples=[sample]))[0]
    assert result.pred_panoptic_seg.sem_seg.shape == (1, 70, 80)
    assert 'mask_logits' not in result.pred_instances


def upsnet_cfg():
    cfg = Config.fromfile(CONFIGS / 'upsnet' / 'upsnet_r18_fpn_dfm_scenes.py').model
    cfg.backbone.init_cfg = None
    cfg.roi_head.bbox_head.fc_out_channels = 32
    cfg.train_cfg.rpn_proposal.max_per_img = 50
    return cfg


def train_one_rank() -> tuple[int, dict, list]:
    """Two steps of UPSNet, of which only the first rank sees things in the first one."""
    torch.distributed.init_process_group('gloo')
    init_default_scope('mmdet')
    rank = get_rank()
    torch.manual_seed(0)
    model = MODELS.build(upsnet_cfg()).train()
    counts = dict(num_things_classes=model.num_things_classes, num_classes=model.num_classes)
    model = MMDistributedDataParallel(model, broadcast_buffers=False)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    torch.manual_seed(rank)
    losses = []
    for num_things in (3 * (1 - rank), 2):
        sample = make_sample(96, 96, num_things, seed=rank, **counts)
        inputs = torch.randint(0, 256, (3, 96, 96)).byte()
        logged = model.train_step(dict(inputs=[inputs], data_samples=[sample]), optimizer)
        losses.append(float(logged['loss_panoptic']))
    return rank, {name: value.detach() for name, value in model.named_parameters()}, losses


@pytest.mark.slow
def test_two_ranks_of_which_one_has_no_things(tmp_path):
    """No parameter is unused, and no rank waits for another: the weights agree."""
    (first, weights, losses), (second, others, _) = run_on_two_ranks(train_one_rank, tmp_path)
    assert (first, second) == (0, 1)
    assert all(0 < loss < math.inf for loss in losses)
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name
        assert weight.isfinite().all()


@pytest.mark.parametrize(('rule', 'kept'), [(None, 0), ('jsis', 1)])
def test_mask_logits_are_kept_only_for_heads_that_ask(rule, kept, monkeypatch):
    cfg = occlusion_aware(panoptic_fpn()) if rule is None else with_rule(panoptic_fpn(), rule)
    lists = []

    @contextmanager
    def recorded(*args):
        with recorded_calls(*args) as calls:
            lists.append(calls)
            yield calls

    monkeypatch.setattr(banet, 'recorded_calls', recorded)
    model = MODELS.build(cfg).eval()
    batch = dict(inputs=[torch.zeros(3, 96, 96).byte()], data_samples=[make_sample(96, 96)])
    model.test_step(batch)
    assert sum(len(calls) for calls in lists) == kept


def with_rule(cfg, rule):
    cfg = occlusion_aware(cfg)
    cfg.panoptic_fusion_head.merge(dict(type='mmbanet.LogitFusionHead', rule=rule))
    for name in ('occlusion_thr', 'removal_thr'):
        cfg.test_cfg.panoptic.pop(name)
    return cfg


@pytest.mark.parametrize('rule', ['upsnet', 'efficientps'])
def test_one_channel_for_all_things_is_refused(rule):
    with pytest.raises(ValueError, match='one channel for all things'):
        MODELS.build(with_rule(panoptic_fpn(), rule))


def test_cascades_are_refused():
    with pytest.raises(TypeError, match='takes mask logits'):
        MODELS.build(with_rule(with_cascade(panoptic_fpn()), 'jsis'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(rule='other'), 'rule must be one of'),
        (dict(rule='jsis', loss_weight=0.1), 'is not learned'),
        (dict(loss_weight=-0.1), 'loss_weight must be 0 or more, got -0.1'),
        (dict(test_cfg=dict(score_thr=0.5, nms=None)), 'missing: stuff_area_limit'),
        (dict(test_cfg=dict(score_thr=0.5, nms=None, stuff_area_limit=1, pairs=1)), 'unknown: pai'),
        (dict(test_cfg=dict(score_thr='0.5', nms=None, stuff_area_limit=1)), "number, got '0.5'"),
        (dict(test_cfg=dict(score_thr=0.5, nms=0.5, stuff_area_limit=1)), 'dict or None, got 0.5'),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        LogitFusionHead(**dict(dict(rule='upsnet'), **change))
