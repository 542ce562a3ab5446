"""OCFusion's classifier, its loss, and the detector that trains it, alone or with the rest."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope

from mmbanet.models.fusion.instance_occlusion import pair_classifier
from mmbanet.models.fusion.instance_occlusion.pair_classifier import PairClassifier

from ....conftest import CONFIGS, make_sample, run_on_two_ranks
from ...families import (
    COUNTS,
    instance_semantic_fusion,
    narrow,
    occlusion_aware,
    panoptic_fpn,
    with_cascade,
)

ALL = sorted((CONFIGS / 'ocfusion').glob('*.py'))
SCENES = CONFIGS / 'ocfusion' / 'ocfusion_r18_fpn_scenes.py'


def small(frozen=True, path=SCENES, **head):
    cfg = narrow(path)
    cfg.panoptic_fusion_head.merge(dict(dict(channels=8, fc_channels=8), **head))
    cfg.train_cfg.merge(dict(fusion_head_only=frozen))
    return cfg


def ordered_sample(seed=0, number=3, things=8, classes=13):
    """Things on the same place, the first in front."""
    sample = make_sample(96, 96, number, things, classes, seed)
    instances = sample.gt_instances
    instances.masks.masks = instances.masks.masks.copy()
    for k in range(number):
        instances.masks.masks[k] = 0
        instances.masks.masks[k, 20 : 60 + 5 * k, 20 : 60 + 5 * k] = 1
        instances.bboxes[k] = torch.tensor([20, 20, 60 + 5 * k, 60 + 5 * k])
    instances.labels = torch.arange(number) % things
    ahead = torch.triu(torch.ones(number, number, dtype=torch.int8), 1)
    instances.order = ahead - ahead.T
    return sample


def batch_of(*samples):
    torch.manual_seed(len(samples))
    images = [torch.randint(0, 256, (3, 96, 96)).byte() for _ in samples]
    return dict(inputs=images, data_samples=list(samples))


@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_configs_train_and_test(path, frozen):
    model = MODELS.build(small(frozen, path)).train()
    counts = model.num_things_classes, model.num_classes
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):
        losses = model.train_step(batch_of(ordered_sample(0, 3, *counts)), optimizer)
        assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
    assert losses['loss_occlusion'] > 0
    assert ('loss_seg' in losses) == (not frozen)
    after = model.state_dict()  # also the statistics of normalisation
    changed = {name.split('.')[0] for name in before if not torch.equal(before[name], after[name])}
    others = {'backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'}
    assert changed == {'panoptic_fusion_head'} | (set() if frozen else others)

    sample = make_sample(96, 96, num_things_classes=counts[0], num_classes=counts[1])
    sample.set_metainfo(dict(ori_shape=(70, 80), scale_factor=(96 / 80, 96 / 70)))
    result = model.test_step(dict(batch_of(sample)))[0]
    assert result.pred_panoptic_seg.sem_seg.shape == (1, 70, 80)
    assert not {'mask_logits', 'roi_features'} & set(result.pred_instances.keys())


def test_configs_differ_from_the_model_below_in_what_they_say():
    """The small one is trained and read as the model whose checkpoint it takes."""
    ours = Config.fromfile(SCENES)
    base = Config.fromfile(CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py')
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'test_dataloader'):
        assert ours[key] == base[key], key
    for key in ('backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'):
        assert ours.model[key] == base.model[key], key
    assert ours.load_from == 'work_dirs/panoptic_fpn_r18_fpn_scenes/iter_500.pth'


def test_papers_head():
    """The sizes of section 3 of the paper: 35.1 million parameters."""
    cfg = Config.fromfile(CONFIGS / 'ocfusion' / 'ocfusion_r50_fpn_1x_coco.py').model
    classifier = MODELS.build(cfg.panoptic_fusion_head).classifier
    shapes = {name: tuple(value.shape) for name, value in classifier.named_parameters()}
    assert shapes['first.weight'] == (512, 514, 3, 3)
    assert shapes['fc.weight'] == (1024, 25088)
    assert sum(value.numel() for value in classifier.parameters()) == 35_140_609
    assert (cfg.test_cfg.panoptic.occlusion_thr, cfg.test_cfg.panoptic.removal_thr) == (0.2, 0.5)


def objects(count=5, channels=3, size=6, dtype=torch.float32):
    torch.manual_seed(1)
    features = torch.randn(count, channels, size, size, dtype=dtype)
    return features, torch.randn(count, 2 * size, 2 * size, dtype=dtype)


def layer_by_layer(classifier, features, mask_logits, i, j):
    """One pair, its two objects one behind the other."""
    maps = []
    for k in (i, j):
        mask = mask_logits[k].sigmoid()
        cells = mask.unfold(0, 2, 2).unfold(1, 2, 2).flatten(2).max(dim=2).values
        maps += [cells[None], features[k]]
    x = torch.cat(maps)[None]
    for name in ('first', 'second', 'third', 'reduce'):
        x = getattr(classifier, name)(x).relu()
    return classifier.logit(classifier.fc(x.flatten()).relu())[0]


def test_classifier_pair_by_pair(monkeypatch):
    features, masks = objects()
    classifier = PairClassifier(3, 6, 7, 8)
    classifier.init_weights()
    torch.nn.init.normal_(classifier.logit.weight)
    pairs = torch.tensor([[3, 1], [1, 3], [4, 0], [0, 3], [4, 1]])
    expected = torch.stack(
        [layer_by_layer(classifier, features, masks, i, j) for i, j in pairs.tolist()]
    )
    torch.testing.assert_close(classifier(features, masks, pairs), expected)
    monkeypatch.setattr(pair_classifier, 'PAIRS_AT_ONCE', 2)
    with torch.no_grad():
        torch.testing.assert_close(classifier(features, masks, pairs), expected)
        assert classifier(features, masks, pairs[:0]).shape == (0,)


def test_gradients_of_the_classifier():
    features, masks = objects(3, 2, 4, torch.float64)
    classifier = PairClassifier(2, 4, 3, 4).double()
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    pairs = torch.tensor([[0, 1], [1, 0], [2, 1]])
    inputs = features.requires_grad_(), masks.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: classifier(*x, pairs), inputs, fast_mode=True)


def test_initial_weights():
    classifier = PairClassifier(16, 14, 32, 64)
    classifier.init_weights()
    assert 0.005 < classifier.logit.weight.detach().std() < 0.015
    assert classifier.second.weight.detach().std() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.1)
    assert not classifier.reduce.bias.any()


def loss_inputs(head, samples):
    torch.manual_seed(2)
    instances = []
    for sample in samples:
        item = sample.gt_instances[:]
        item.mask_logits = torch.randn(len(item), 28, 28)
        item.roi_features = torch.randn(len(item), *head.needs_roi_features)
        instances.append(item)
    return instances, None, samples


def small_head(**settings):
    torch.manual_seed(0)
    head = MODELS.build(small(**settings).panoptic_fusion_head)
    head.init_weights()
    torch.nn.init.normal_(head.classifier.logit.weight)
    return head


def test_loss_by_hand():
    """Three things, each before the next, and an image of one thing more: 3 pairs, both ways."""
    head = small_head(loss_weight=2.0)
    inputs = loss_inputs(head, [ordered_sample(number=3), ordered_sample(number=1)])
    features, masks = inputs[0][0].roi_features, inputs[0][0].mask_logits
    terms = []
    for i in range(3):
        for j in range(3):
            if i != j:
                logit = head.classifier(features, masks, torch.tensor([[i, j]]))[0]
                terms.append(F.softplus(-logit if i < j else logit))
    loss = head.loss(*inputs)['loss_occlusion']
    torch.testing.assert_close(loss, 2 * torch.stack(terms).mean())


def test_pairs_that_are_not_learned():
    """Of unknown order, of one class where these are left out, of little overlap, of no things."""
    head = small_head(same_class=False)
    unknown, alike, apart, none = (ordered_sample(number=k) for k in (2, 2, 2, 0))
    unknown.gt_instances.order.zero_()
    alike.gt_instances.labels[:] = 1
    apart.gt_instances.masks.masks[1, :59] = 0
    for sample in (unknown, alike, apart, none):
        loss = head.loss(*loss_inputs(head, [sample]))['loss_occlusion']
        loss.backward()
        assert loss == 0
    assert all(not p.grad.any() for p in head.classifier.parameters())
    assert head.loss(*loss_inputs(head, [ordered_sample(number=2)]))['loss_occlusion'] > 0


def test_loss_is_deterministic_and_finite_in_half_precision():
    head = small_head(num_pairs=2)
    inputs = loss_inputs(head, [ordered_sample(number=4)])
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        head.zero_grad()
        loss = head.loss(*inputs)['loss_occlusion']
        loss.backward()
        values.append([loss.detach(), *(p.grad.clone() for p in head.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*values))
    torch.manual_seed(3)
    with torch.autocast('cpu', torch.bfloat16):
        low = head.loss(*inputs)['loss_occlusion']
    low.backward()
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, loss, rtol=0.05, atol=0.05)


def test_classifier_learns_who_is_in_front():
    """Where the features say it: the first channel holds the depth."""
    head = small_head()
    inputs = loss_inputs(head, [ordered_sample(number=4)])
    for item in inputs[0]:
        item.roi_features[:, 0] = torch.arange(4.0)[:, None, None]
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    first = head.loss(*inputs)['loss_occlusion'].item()
    for _ in range(40):
        loss = head.loss(*inputs)['loss_occlusion']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < first / 4


def train_one_rank(frozen):
    """Two iterations; the second rank has images without pairs, and without things."""
    init_default_scope('mmdet')
    torch.distributed.init_process_group('gloo')
    torch.manual_seed(0)
    model = MODELS.build(small(frozen)).train()
    model.init_weights()
    parallel = MMDistributedDataParallel(module=model, find_unused_parameters=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = OptimWrapper(torch.optim.SGD(trained, lr=1e-3))
    numbers = [(3, 2), (1, 0)][torch.distributed.get_rank()]
    losses = [
        parallel.train_step(batch_of(ordered_sample(number=number)), optimizer)['loss_occlusion']
        for number in numbers
    ]
    return [loss.item() for loss in losses], dict(model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize('frozen', [True, False])
def test_two_ranks_one_of_them_without_pairs(frozen, tmp_path):
    losses, weights = zip(*run_on_two_ranks(train_one_rank, tmp_path, frozen))
    assert min(losses[0]) > 0
    assert losses[1] == [0, 0]
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_frozen_parts_give_no_gradient_and_stay_in_evaluation_mode():
    model = MODELS.build(small()).train()
    assert [name for name, part in model.named_children() if part.training] == [
        'panoptic_fusion_head'
    ]
    assert not model.backbone.bn1.training
    assert not model.eval().panoptic_fusion_head.training
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'panoptic_fusion_head'}


def test_roi_features_are_those_of_the_mask_branch(monkeypatch):
    """In the order of the detections, of every image of the batch."""
    model = MODELS.build(small()).eval()
    seen = []

    def predict(detections, *_):
        seen.extend(detections)
        raise KeyboardInterrupt

    monkeypatch.setattr(model.panoptic_fusion_head, 'predict', predict)
    samples = [make_sample(96, 96, seed=seed) for seed in (0, 1)]
    batch = batch_of(*samples)
    with pytest.raises(KeyboardInterrupt):
        model.test_step(dict(batch))
    data = model.data_preprocessor(dict(batch))
    with torch.no_grad():
        pyramid = model.extract_feat(data['inputs'])
        for index, item in enumerate(seen):
            assert len(item) > 0
            rois = torch.cat([torch.full((len(item), 1), float(index)), item.bboxes], dim=1)
            found = model.roi_head._mask_forward(pyramid, rois)
            torch.testing.assert_close(item.roi_features, found['mask_feats'])
            own = found['mask_preds'][torch.arange(len(item)), item.labels]
            torch.testing.assert_close(item.mask_logits, own)


def cascade():
    cfg = with_cascade(occlusion_aware(panoptic_fpn()))
    cfg.panoptic_fusion_head.merge(dict(type='mmbanet.InstanceOcclusionHead', in_channels=64))
    return cfg


def not_learned():
    cfg = occlusion_aware(panoptic_fpn())
    cfg.train_cfg.merge(dict(fusion_head_only=True))
    return cfg


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (cascade, TypeError, 'InstanceOcclusionHead takes mask logits'),
        (lambda: small(in_channels=32), ValueError, 'in_channels: 32, but .* have 64'),
        (lambda: small(roi_size=7), ValueError, 'roi_size: 7, but .* gives 14 x 14'),
        (not_learned, ValueError, 'fusion_head_only: nothing would learn'),
    ],
)
def test_parts_that_do_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        MODELS.build(make())


def test_ground_truth_without_order():
    head = small_head()
    inputs = loss_inputs(head, [ordered_sample(number=3)])
    del inputs[2][0].gt_instances.order
    with pytest.raises(ValueError, match=r'order must be \(3, 3\).* got None; .*LoadInstanceOrder'):
        head.loss(*inputs)


def test_detector_without_mask_logits(tmp_path):
    folder = dict(type='mmbanet.SemanticPredictionFolder', folder=str(tmp_path), **COUNTS)
    cfg = instance_semantic_fusion('MaskRCNN', folder)
    cfg.panoptic_fusion_head.merge(dict(type='mmbanet.InstanceOcclusionHead', channels=8))
    with pytest.raises(TypeError, match=r'InstanceOcclusionHead takes mask logits, .* does not'):
        MODELS.build(cfg)


def test_beside_both_paths_of_banet(small_cfg):
    """RoI features are S2I's; the loss needs no logits, which are I2S's."""
    cfg = small_cfg.model
    cfg.panoptic_fusion_head = small(same_class=True).panoptic_fusion_head
    cfg.test_cfg.panoptic.merge(dict(score_thr=0.0, stuff_area_limit=1))
    model = MODELS.build(cfg).train()
    losses = model.loss(*model.data_preprocessor(batch_of(ordered_sample())).values())
    assert {'loss_occlusion', 'loss_i2s', 'loss_seg'} <= set(losses)
    losses['loss_occlusion'].backward()
    assert model.roi_head.mask_roi_extractor.phi.weight.grad.any()
    result = model.eval().test_step(dict(batch_of(make_sample(96, 96))))[0]
    assert result.pred_panoptic_seg.sem_seg.shape == (1, 96, 96)
