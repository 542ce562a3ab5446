"""What OANet's ranking learns, and from which masks, alone and in the detector."""

import math
import random

import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from mmbanet.models import SpatialRankingHead

from ...conftest import CONFIGS, make_sample
from ..families import (
    COUNTS,
    instance_semantic_fusion,
    narrow,
    occlusion_aware,
    panoptic_fpn,
    with_cascade,
)
from .test_spatial_ranking import (
    CONFIG_FILES,
    LEFT,
    RIGHT,
    batch_of,
    make_head,
    masks_of,
    results_of,
    truth_of,
)


def predicted(masks, logit=9.0):
    """Masks that are boxes as the mask head's."""
    boxes = []
    for mask in masks:
        y, x = mask.nonzero().T
        boxes.append([float(x.min()), float(y.min()), float(x.max()) + 1, float(y.max()) + 1])
    logits = torch.full((len(masks), 2, 2), logit, requires_grad=True)
    return InstanceData(bboxes=torch.tensor(boxes), mask_logits=logits)


def loss_of(head, sample, instances=None):
    return head.loss([instances], None, [sample])['loss_ranking']


def test_predicted_masks_may_overlap_where_the_truth_does_not():
    """The middle column is class 1's; only the predicted masks contest it."""
    labels, owners = torch.tensor([0, 1]), torch.tensor([[0, 1, 1]] * 2)
    apart = truth_of(masks_of('#.. #..', '.## .##'), labels, owners)
    instances = predicted(masks_of(LEFT, RIGHT))
    head = make_head(favoured=0, learned_from='predicted')
    assert head.needs_mask_logits
    assert not make_head().needs_mask_logits
    # Rights (1, 0) in the column that class 1 owns.
    loss = loss_of(head, apart, instances)
    assert float(loss.detach()) == pytest.approx(math.log(1 + math.exp(1)))
    loss.backward()
    assert instances.mask_logits.grad is None  # they are thresholded
    assert loss_of(make_head(favoured=0), apart) == 0
    # Nothing is contested where one of them is not sure of itself.
    assert loss_of(head, apart, predicted(masks_of(LEFT, RIGHT), -9.0)) == 0


@pytest.mark.parametrize('count', [0, 1])
def test_predicted_masks_of_few_objects(count):
    sample = truth_of(torch.ones(count, 4, 4).bool(), torch.zeros(count).long(), torch.ones(4, 4))
    instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 4, 4]])[:count], mask_logits=torch.ones(count, 2, 2)
    )
    head = make_head(learned_from='predicted')
    loss = loss_of(head, sample, instances)
    loss.backward()
    assert loss == 0
    for parameter in head.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def reference_loss(head, classes, owners):
    """Cell by cell, of what the classes cover and the label in each cell."""
    rights = head.rank(classes[None])[0].tolist()
    costs = []
    for y, row in enumerate(owners.tolist()):
        for x, owner in enumerate(row):
            claims = sum(float(cover[y, x]) >= 0.5 for cover in classes)
            if owner < len(classes) and (head.learned == 'things' or claims > 1):
                scores = [right[y][x] for right in rights]
                costs.append(math.log(sum(map(math.exp, scores))) - scores[owner])
    return sum(costs) / max(len(costs), 1)


@pytest.mark.parametrize('learned', ['contested', 'things'])
@pytest.mark.parametrize('learned_from', ['truth', 'predicted'])
@pytest.mark.parametrize('stride', [1, 3])
def test_loss_against_loops(stride, learned_from, learned):
    """The label of a cell is that of the pixel in its middle."""
    random.seed(0)
    head = make_head(3, 1, stride=stride, learned_from=learned_from, learned=learned)
    height, width = 6 * stride, 5 * stride
    masks = torch.zeros(5, height, width).bool()
    for mask in masks:  # boxes of whole cells
        y, x = (sorted(random.sample(range(n), 2)) for n in (7, 6))
        mask[y[0] * stride : y[1] * stride, x[0] * stride : x[1] * stride] = True
    labels = torch.tensor([0, 2, 1, 0, 2])
    owners = torch.randint(5, (6, 5))
    owners[owners == 4] = 255
    wide = torch.randint(3, (height, width))
    wide[stride // 2 :: stride, stride // 2 :: stride] = owners
    cells = masks[:, ::stride, ::stride].float()
    classes = torch.stack([cells[labels == c].amax(0) for c in range(3)])
    loss = loss_of(head, truth_of(masks, labels, wide), predicted(masks))
    expected = reference_loss(head, classes, owners)
    assert expected > 0
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def tie_on_person(front, size=12):
    """A large object of class 0 and a small one of class 1 inside of it, at a random place."""
    masks = torch.zeros(2, size, size).bool()
    y, x = (random.randrange(size - 7) for _ in range(2))
    masks[0, y : y + 7, x : x + 7] = True
    y, x = y + random.randrange(1, 4), x + random.randrange(1, 4)
    masks[1, y : y + 3, x : x + 2] = True
    owners = torch.full((size, size), 2)
    for k in (1 - front, front):
        owners[masks[k]] = k
    return masks, owners


@pytest.mark.parametrize('learned_from', ['truth', 'predicted'])
@pytest.mark.parametrize('front', [0, 1])
def test_learns_which_class_is_in_front(front, learned_from):
    """Whatever the score says; a tie behind its person is dropped."""
    random.seed(0)
    head = make_head(learned_from=learned_from)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    labels = torch.tensor([0, 1])
    for _ in range(40):
        masks, owners = tie_on_person(front)
        loss = loss_of(head, truth_of(masks, labels, owners), predicted(masks))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for _ in range(10):
        masks, owners = tie_on_person(front)
        for scores in ([0.9, 0.5], [0.5, 0.9]):
            given = results_of(masks, labels, torch.tensor(scores))
            (found,) = head.predict([given], [torch.full(owners.shape, 2)])
            assert torch.equal(found.sem_seg[0] % 1000, owners)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision(dtype):
    """Empty masks and large ones have ranks."""
    head = make_head(2, 1).to(dtype)
    masks = torch.zeros(3, 260, 300).bool()
    masks[1:] = True
    ranks = head.ranks(masks, torch.tensor([0, 0, 1]))
    assert ranks.isfinite().all()
    assert ranks[0] == 0
    assert (ranks[1:] != 0).all()


def overlapping_sample(seed=0):
    """Three things on top of each other, of as many classes; the last owns all."""
    sample = make_sample(96, 96, 3, 8, 13, seed)
    truth = sample.gt_instances
    truth.labels = torch.arange(3)
    masks = torch.zeros(3, 96, 96, dtype=torch.uint8)
    masks[:, 20:70, 20:70] = 1
    truth.masks = BitmapMasks(masks.numpy(), 96, 96)
    truth.bboxes = torch.tensor([[20.0, 20, 70, 70]] * 3)
    sample.gt_sem_seg.sem_seg[:, 20:70, 20:70] = 2
    return sample


@pytest.mark.parametrize('learned_from', ['truth', 'predicted'])
@pytest.mark.parametrize('frozen', [False, True])
def test_detector_hands_masks_to_it(learned_from, frozen):
    """Frozen, and with the truth's masks, nothing else is run."""
    cfg = narrow(next(path for path in CONFIG_FILES if path.stem.endswith('fpn_scenes')))
    cfg.panoptic_fusion_head.learned_from = learned_from
    cfg.train_cfg.merge(dict(fusion_head_only=frozen))
    model = MODELS.build(cfg).train()
    with torch.no_grad():  # masks that fill their boxes
        model.roi_head.mask_head.conv_logits.bias.fill_(9.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    runs = []
    model.backbone.register_forward_hook(lambda *_: runs.append(1))
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    for _ in range(2):
        losses = model.train_step(batch_of(overlapping_sample()), optimizer)
        assert losses['loss_ranking'] > 0
    assert len(runs) == (0 if frozen and learned_from == 'truth' else 2)
    changed = {name for name, value in model.named_parameters() if (value != before[name]).any()}
    ranking = {name for name in before if name.startswith('panoptic_fusion_head.rank.')}
    assert ranking <= changed
    assert (changed == ranking) == frozen
    model.test_step(batch_of(overlapping_sample()))


def test_attention_has_its_masks_when_a_head_alone_learns_from_logits(monkeypatch):
    cfg = narrow(CONFIGS / 'aunet' / 'aunet_r18_fpn_scenes.py')
    ranking = narrow(next(path for path in CONFIG_FILES if path.stem.endswith('fpn_scenes')))
    cfg.merge(dict(type=ranking.type, panoptic_fusion_head=ranking.panoptic_fusion_head))
    cfg.test_cfg.panoptic = ranking.test_cfg.panoptic
    cfg.train_cfg.merge(dict(fusion_head_only=True))
    model = MODELS.build(cfg).train()
    seen = []
    monkeypatch.setattr(SpatialRankingHead, 'loss_needs_logits', True)
    monkeypatch.setattr(SpatialRankingHead, 'loss', lambda _, __, logits, ___: seen.append(logits))
    batch = model.data_preprocessor(batch_of(overlapping_sample()), training=True)
    model.loss(batch['inputs'], batch['data_samples'])
    (logits,) = seen
    assert logits.shape[:2] == (1, 6)


def test_predicted_masks_need_a_mask_head_that_has_logits():
    cfg = with_cascade(occlusion_aware(panoptic_fpn()))
    cfg.panoptic_fusion_head.type = 'mmbanet.SpatialRankingHead'
    MODELS.build(cfg)
    cfg.panoptic_fusion_head.learned_from = 'predicted'
    with pytest.raises(TypeError, match='SpatialRankingHead takes mask logits'):
        MODELS.build(cfg)


def test_over_any_instance_model(tmp_path):
    """With its own checkpoint, and with the size of the network's input."""
    ranking = make_head(8, 5)
    torch.save(dict(state_dict=ranking.state_dict()), tmp_path / 'ranking.pth')
    folder = dict(type='mmbanet.SemanticPredictionFolder', folder=str(tmp_path), **COUNTS)
    cfg = instance_semantic_fusion('MaskRCNN', folder)
    cfg.panoptic_fusion_head.merge(
        dict(
            type='mmbanet.SpatialRankingHead',
            kernel_size=3,
            init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'ranking.pth')),
        )
    )
    model = MODELS.build(cfg).eval()
    head = model.panoptic_fusion_head
    for name, value in head.state_dict().items():
        assert torch.equal(value, ranking.state_dict()[name])

    model.semantic_model.predict = lambda _, metas, rescale: [
        torch.full((1, *(meta['ori_shape' if rescale else 'img_shape'][:2])), 8) for meta in metas
    ]
    asked = []
    head.ranks = lambda masks, labels, scale, chosen: (
        asked.append(scale) or torch.zeros(len(chosen))
    )
    for rescale in (True, False):
        sample = make_sample(96, 96)
        sample.set_metainfo(dict(ori_shape=(48, 96), scale_factor=(1.0, 2.0)))
        (result,) = model.predict(torch.randn(1, 3, 96, 96), [sample], rescale)
        assert 'scale_factor' not in result.pred_instances
    assert asked == [(1.0, 2.0), (1, 1)]
