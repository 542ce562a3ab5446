"""OANet's spatial ranking: ranks against loops over cells, its loss, and the detector with it."""

import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from mmbanet.models import SpatialRankingHead
from mmbanet.models.fusion import resolve_by_score

from ...conftest import CONFIGS, make_sample, run_on_two_ranks
from ..families import narrow, occlusion_aware, panoptic_fpn

CONFIG_FILES = sorted((CONFIGS / 'oanet').glob('*.py'))
SETTINGS = dict(score_thr=0.1, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=0)


def make_head(things=2, stuff=1, favoured=None, **settings):
    """Rights are what the favoured class covers, or random."""
    settings = dict(dict(kernel_size=3, stride=1, test_cfg=SETTINGS), **settings)
    head = SpatialRankingHead(things, stuff, **settings)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    if favoured is not None:
        for conv in head.rank:
            torch.nn.init.zeros_(conv.bias)
            torch.nn.init.dirac_(conv.weight)
        head.rank[1].weight.data.mul_(torch.eye(things)[favoured][:, None, None, None])
    return head


def masks_of(*pictures):
    """One mask a picture, '#' for its pixels."""
    return torch.tensor([[[c == '#' for c in row] for row in p.split()] for p in pictures])


# Two objects that share the middle column.
LEFT, RIGHT = '##. ##.', '.## .##'


@pytest.mark.parametrize(
    ('favoured', 'scored', 'ranks'),
    [
        # Rights of class 0 are what it covers: 1 in all of its own pixels.
        (0, 'mask', [1.0, 0.0]),
        (1, 'mask', [0.0, 1.0]),
        # Of the contested column alone.
        (1, 'contested', [0.0, 1.0]),
    ],
)
def test_ranks_by_hand(favoured, scored, ranks):
    head = make_head(favoured=favoured, scored=scored)
    found = head.ranks(masks_of(LEFT, RIGHT), torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx(ranks)


def test_softmax_ranks_by_hand():
    """Rights (1, 0) where class 0 is, (0, 0) elsewhere: e / (e + 1) and 1/2 of class 1's pixels."""
    head = make_head(favoured=0, softmax=True)
    found = head.ranks(masks_of(LEFT, RIGHT), torch.tensor([0, 1]))
    sigmoid = 1 / (1 + math.exp(-1))
    # Class 1 has 1 - sigmoid in the shared column and 1/2 in its own.
    assert found.tolist() == pytest.approx([sigmoid, ((1 - sigmoid) + 0.5) / 2])


def test_without_contest_nobody_is_contested():
    head = make_head(scored='contested')
    found = head.ranks(masks_of('#..', '..#', '...'), torch.tensor([0, 1, 0]))
    assert found.tolist() == [0, 0, 0]


def test_cells_are_pixels_of_the_networks_input():
    """An input of twice the size in cells of two pixels is the map of the masks themselves."""
    masks, labels = masks_of(LEFT, RIGHT), torch.tensor([0, 1])
    head = make_head()
    coarse = make_head(stride=2)
    coarse.load_state_dict(head.state_dict())
    torch.testing.assert_close(coarse.ranks(masks, labels, (2, 2)), head.ranks(masks, labels))
    assert not torch.allclose(coarse.ranks(masks, labels), head.ranks(masks, labels))


def reference_ranks(head, masks, labels):
    """Loops over cells of ``stride`` pixels, which divides the size."""
    (count, height, width), step = masks.shape, head.stride
    h, w, things = height // step, width // step, head.num_things_classes

    def covered(k, y, x):
        cell = masks[k, y * step : (y + 1) * step, x * step : (x + 1) * step]
        return float(cell.float().sum()) / step**2

    shares = [[[covered(k, y, x) for x in range(w)] for y in range(h)] for k in range(count)]
    classes = [
        [
            [
                max([shares[k][y][x] for k in range(count) if labels[k] == c], default=0.0)
                for x in range(w)
            ]
            for y in range(h)
        ]
        for c in range(things)
    ]
    pad = head.rank[0].kernel_size[1] // 2

    def convolved(maps, conv, vertical):
        weight, bias = conv.weight.tolist(), conv.bias.tolist()
        out = [[[bias[c] for _ in range(w)] for _ in range(h)] for c in range(things)]
        for c in range(things):
            for d in range(things):
                for y in range(h):
                    for x in range(w):
                        for t in range(2 * pad + 1):
                            yy, xx = (y + t - pad, x) if vertical else (y, x + t - pad)
                            if 0 <= yy < h and 0 <= xx < w:
                                factor = weight[c][d][t][0] if vertical else weight[c][d][0][t]
                                out[c][y][x] += factor * maps[d][yy][xx]
        return out

    rights = convolved(convolved(classes, head.rank[0], False), head.rank[1], True)
    ranks = []
    for k in range(count):
        total, right = 0.0, 0.0
        for y in range(h):
            for x in range(w):
                here = [math.exp(rights[c][y][x]) for c in range(things)]
                value = here[labels[k]] / sum(here) if head.softmax else rights[labels[k]][y][x]
                several = sum(classes[c][y][x] >= 0.5 for c in range(things)) > 1
                if head.scored == 'mask' or several:
                    total += shares[k][y][x]
                    right += shares[k][y][x] * value
        ranks.append(right / total if total else 0.0)
    return ranks


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('softmax', [False, True])
@pytest.mark.parametrize('scored', ['mask', 'contested'])
def test_ranks_like_loops_over_cells(stride, softmax, scored):
    head = make_head(3, 1, stride=stride, softmax=softmax, scored=scored)
    masks, labels = torch.rand(5, 6, 8) > 0.5, torch.tensor([0, 2, 1, 0, 2])
    expected = torch.tensor(reference_ranks(head, masks, labels.tolist()))
    torch.testing.assert_close(head.ranks(masks, labels), expected, atol=1e-5, rtol=1e-5)


def results_of(masks, labels, scores):
    count = len(masks)
    return InstanceData(bboxes=torch.zeros(count, 4), labels=labels, scores=scores, masks=masks)


def test_lays_objects_by_rank_and_drops_what_is_covered():
    """The favoured class is laid first; of the other, half or more is taken."""
    masks = masks_of('###. ###.', '.### .###', '..## ..##')
    given = results_of(masks, torch.tensor([0, 1, 1]), torch.tensor([0.9, 0.8, 0.7]))
    semantics = torch.full((2, 4), 2)
    (found,) = make_head(favoured=1).predict([given], [semantics])
    # Class 1 first: object 1 before object 2 of the same rank, by score. Object 2 has nothing left;
    # object 0 keeps one of three columns and is dropped.
    assert [s.get('detection') for s in found.segments_info] == [1, None]
    assert found.segment_ids[0].tolist() == [[2, 1, 1, 1]] * 2
    (found,) = make_head(favoured=0).predict([given], [semantics])
    assert [s.get('detection') for s in found.segments_info] == [0, 2]
    # Objects 1 and 2 have rank 0: object 1 lost two of three columns, object 2 one of two.
    assert found.segment_ids[0].tolist() == [[1, 1, 1, 2]] * 2


def test_is_the_heuristic_in_another_order():
    torch.manual_seed(3)
    for _ in range(20):
        masks = torch.rand(6, 1, 1) > torch.rand(6, 5, 7)
        labels, scores = torch.randint(3, (6,)), torch.rand(6).clamp(min=0.2)
        head = make_head(3, 1)
        (found,) = head.predict([results_of(masks, labels, scores)], [torch.full((5, 7), 3)])
        order = scores.argsort(descending=True)
        ranks = head.ranks(masks[order], labels[order])
        owner, _ = resolve_by_score(masks[order], ranks)
        by_id = {segment['id']: segment.get('detection') for segment in found.segments_info}
        shown = [by_id.get(i) for i in found.segment_ids.flatten().tolist()]
        assert shown == [int(order[k]) if k >= 0 else None for k in owner.flatten().tolist()]


def test_equal_ranks_are_decided_by_score():
    masks = masks_of('##', '##')
    given = results_of(masks, torch.tensor([0, 0]), torch.tensor([0.5, 0.6]))
    (found,) = make_head().predict([given], [torch.full((1, 2), 2)])
    assert [segment['detection'] for segment in found.segments_info] == [1]


@pytest.mark.parametrize(
    ('things', 'stuff', 'count', 'size'),
    [(2, 1, 0, (4, 5)), (1, 0, 2, (1, 1)), (1, 1, 1, (3, 3)), (3, 0, 4, (2, 9))],
)
@pytest.mark.parametrize('stride', [1, 4])
def test_degenerate_inputs(things, stuff, count, size, stride):
    labels = torch.arange(count) % things
    given = results_of(torch.ones(count, *size).bool(), labels, torch.full((count,), 0.5))
    head = make_head(things, stuff, stride=stride)
    (found,) = head.predict([given], [torch.full(size, things + stuff)])
    assert len(found.segments_info) == min(count, 1)
    given.masks = torch.zeros(count, *size).bool()
    (found,) = head.predict([given], [torch.full(size, things + stuff)])
    assert found.segments_info == []


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(kernel_size=4), 'kernel_size must be odd'),
        (dict(stride=0), 'stride must be at least 1'),
        (dict(scored='all'), 'scored must be'),
        (dict(learned='all'), 'learned must be'),
        (dict(learned_from='boxes'), 'learned_from must be'),
        (dict(test_cfg=dict(score_thr=0.5)), 'missing: nms'),
        (dict(test_cfg=dict(SETTINGS, removal='joint')), 'test_cfg.removal: not with spatial'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        make_head(**settings)


def truth_of(masks, labels, owners):
    masks = BitmapMasks(masks.numpy().astype('uint8'), *masks.shape[1:])
    sample = DetDataSample(gt_instances=InstanceData(labels=labels, masks=masks))
    sample.gt_sem_seg = PixelData(sem_seg=owners[None])
    return sample


@pytest.mark.parametrize(('learned', 'places'), [('contested', [1, 1]), ('things', [0, 1, 1, 2])])
def test_loss_by_hand(learned, places):
    """A row of five: class 0, two contested cells that class 1 owns, class 1, stuff."""
    masks = masks_of('###..', '.###.')
    owners = torch.tensor([[0, 1, 1, 1, 2]])
    head = make_head(favoured=0, learned=learned)
    sample = truth_of(masks, torch.tensor([0, 1]), owners)
    (loss,) = head.loss([None] * 2, None, [sample, sample]).values()
    # Rights of class 0 are 1 in its three cells, those of class 1 are 0 in all.
    cost = {0: math.log(1 + math.exp(-1)), 1: math.log(1 + math.exp(1)), 2: math.log(2)}
    assert float(loss) == pytest.approx(sum(cost[place] for place in places) / len(places))


def test_void_and_padding_are_not_learned():
    masks = masks_of('## ##', '## ##')
    owners = torch.tensor([[255, 255, 255], [255, 255, 255], [255, 255, 255]])
    head = make_head()
    (loss,) = head.loss([None], None, [truth_of(masks, torch.tensor([0, 1]), owners)]).values()
    loss.backward()
    assert loss == 0
    for parameter in head.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


@pytest.mark.parametrize('count', [0, 1])
def test_loss_without_overlaps(count):
    masks = torch.ones(count, 4, 4).bool()
    sample = truth_of(masks, torch.zeros(count).long(), torch.zeros(4, 4).long())
    (loss,) = make_head().loss([None], None, [sample]).values()
    loss.backward()
    assert loss == 0


def test_gradients():
    """Against what the loss changes by, in a direction for each parameter."""
    head = make_head(3, 1).double()
    masks, labels = torch.rand(4, 5, 6) > 0.4, torch.tensor([0, 1, 2, 1])
    sample = truth_of(masks, labels, torch.randint(3, (5, 6)))

    def loss():
        return head.loss([None], None, [sample])['loss_ranking']

    loss().backward()
    for parameter in head.parameters():
        direction = torch.randn_like(parameter)
        with torch.no_grad():
            parameter += 1e-5 * direction
            more = loss()
            parameter -= 2e-5 * direction
            less = loss()
            parameter += 1e-5 * direction
        assert float((more - less) / 2e-5) == pytest.approx(
            float((parameter.grad * direction).sum()), rel=1e-4, abs=1e-8
        )


def test_the_same_again():
    head = make_head(5, 2, stride=4)
    masks, labels = torch.rand(9, 50, 70) > 0.4, torch.randint(5, (9,))
    assert torch.equal(head.ranks(masks, labels), head.ranks(masks, labels))


def test_autocast_gives_finite_ranks_and_loss():
    head = make_head(3, 1)
    masks, labels = torch.rand(4, 5, 6) > 0.4, torch.tensor([0, 1, 2, 1])
    sample = truth_of(masks, labels, torch.randint(3, (5, 6)))
    exact = head.loss([None], None, [sample])['loss_ranking']
    with torch.autocast('cpu', torch.bfloat16):
        loss = head.loss([None], None, [sample])['loss_ranking']
        ranks = head.ranks(masks, labels)
    assert loss.dtype == ranks.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ranks, head.ranks(masks, labels), rtol=0.05, atol=0.05)


def batch_of(*samples):
    images = [torch.randint(0, 256, (3, 96, 96)).byte() for _ in samples]
    return dict(inputs=images, data_samples=list(samples))


@pytest.mark.parametrize('path', CONFIG_FILES, ids=lambda path: path.stem)
def test_configs_train_and_test(path):
    model = MODELS.build(narrow(path)).train()
    model.init_weights()
    counts = dict(num_things_classes=model.num_things_classes, num_classes=model.num_classes)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    sample = make_sample(96, 96, **counts)
    truth = sample.gt_instances
    truth.labels = torch.tensor([0, 1, 2])
    truth.masks.masks[:] = 1
    sample.gt_sem_seg.sem_seg[:] = 1
    # Predicted masks overlap as well.
    truth.bboxes[:] = torch.tensor([10.0, 10, 80, 80])
    torch.nn.init.constant_(model.roi_head.mask_head.conv_logits.bias, 9)
    before = [parameter.clone() for parameter in model.panoptic_fusion_head.parameters()]
    for _ in range(2):
        losses = model.train_step(batch_of(sample), optimizer)
    assert losses['loss_ranking'] > 0
    for old, new in zip(before, model.panoptic_fusion_head.parameters()):
        assert not torch.equal(old, new)

    sample = make_sample(96, 96, **counts)
    sample.set_metainfo(dict(ori_shape=(70, 80), scale_factor=(96 / 80, 96 / 70)))
    asked = []
    head = model.panoptic_fusion_head
    ranks = head.ranks
    head.ranks = lambda *args: asked.append(args[2]) or ranks(*args)
    (result,) = model.test_step(batch_of(sample))
    assert result.pred_panoptic_seg.sem_seg.shape == (1, 70, 80)
    assert asked == [(96 / 80, 96 / 70)]
    assert 'scale_factor' not in result.pred_instances


def test_mmdets_heads_do():
    """On mmdet's PanopticFPN as well, and with logits that have one channel for all things."""
    cfg = occlusion_aware(panoptic_fpn())
    cfg.panoptic_fusion_head.type = 'mmbanet.SpatialRankingHead'
    model = MODELS.build(cfg).eval()
    batch = dict(inputs=[torch.zeros(3, 96, 96).byte()], data_samples=[make_sample(96, 96)])
    assert model.test_step(batch)[0].pred_panoptic_seg.sem_seg.shape[1:] == (96, 96)


def train_one_rank():
    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(narrow(CONFIGS / 'oanet' / 'oanet_r18_fpn_scenes.py'))
    model.init_weights()
    model = MMDistributedDataParallel(model)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-3))
    losses = []
    for step in range(2):  # in the first, one rank has no things
        sample = make_sample(96, 96, num_things=0 if rank == 1 and step == 0 else 3)
        losses.append(float(model.train_step(batch_of(sample), optimizer)['loss_ranking']))
    weights = model.module.panoptic_fusion_head.state_dict()
    return rank, {name: value.clone() for name, value in weights.items()}, losses


def test_two_ranks_of_which_one_has_no_things(tmp_path):
    (first, weights, losses), (second, others, _) = run_on_two_ranks(train_one_rank, tmp_path)
    assert (first, second) == (0, 1)
    assert all(math.isfinite(loss) for loss in losses)
    for name, weight in weights.items():
        assert torch.equal(weight, others[name]), name
