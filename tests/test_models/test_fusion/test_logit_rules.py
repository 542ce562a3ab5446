"""The rules of fusion by logits against a loop over pixels, on tiny maps."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from mmbanet.models import LogitFusionHead
from mmbanet.models.fusion.logit_rules.panoptic_loss import PanopticLoss, panoptic_logits

T, S = 2, 2
RULES = ('upsnet', 'efficientps', 'jsis', 'mask_wise')


def head(rule, things=T, stuff=S, **settings):
    cfg = dict(score_thr=0.0, nms=None, stuff_area_limit=0, **settings)
    return LogitFusionHead(rule, things, stuff, test_cfg=cfg)


def scene(seed, count=4, size=(7, 9)):
    """Instances whose boxes lie on pixels, and logits of the results' size."""
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(count):
        x, y = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in size[::-1])
        boxes.append((x[0], y[0], x[1], y[1]))
    cells = torch.from_numpy(rng.normal(size=(count, 3, 3)).astype(np.float32) * 2)
    pasted = np.full((count, *size), -np.inf)
    for k, box in enumerate(boxes):
        for y in range(box[1], box[3]):
            for x in range(box[0], box[2]):
                pasted[k, y, x] = read(cells[k].numpy(), box, x, y)
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.from_numpy(rng.integers(0, T, count)),
        scores=torch.from_numpy(np.sort(rng.random(count).astype(np.float32))[::-1].copy()),
        masks=torch.from_numpy(pasted > 0),
        mask_logits=cells,
    )
    logits = torch.from_numpy(rng.normal(size=(T + S, *size)).astype(np.float32) * 2)
    return instances, logits, pasted


def read(cells, box, x, y):
    """One pixel of a mask, its four cells one by one."""
    places = []
    for p, low, high, n in ((y, box[1], box[3], len(cells)), (x, box[0], box[2], len(cells[0]))):
        place = min(max((p + 0.5 - low) / (high - low) * n - 0.5, 0), n - 1)
        below = min(int(place), n - 2)
        places.append(((below, 1 - place + below), (below + 1, place - below)))
    return sum(cells[i, j] * a * b for i, a in places[0] for j, b in places[1])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def kept_by_claims(instances, groups, limit):
    taken, kept = {}, []
    for k, mask in enumerate(instances.masks.numpy()):
        pixels = set(zip(*mask.nonzero()))
        group = taken.setdefault(groups[k], set())
        if pixels and len(pixels & group) / len(pixels) <= limit:
            group |= pixels
            kept.append(k)
    return kept


def reference(rule, instances, logits, pasted, outside='zero', unknown=True):
    """(H, W) of -1 - label for stuff and void, and the instance elsewhere."""
    x, labels = logits.numpy(), instances.labels.tolist()
    result = np.zeros(x.shape[1:], int)
    own = rule == 'upsnet'
    groups = labels if own else [0] * len(labels)
    kept = kept_by_claims(instances, groups, 0.3 if own else 0.5)
    for y, col in np.ndindex(result.shape):
        stuff = x[T:, y, col]
        values, semantic = {}, []
        for k in kept:
            inside = np.isfinite(pasted[k, y, col])
            if not inside and outside == 'exclude':
                continue
            a = pasted[k, y, col] if inside else 0.0
            b = x[labels[k], y, col] if inside else 0.0
            semantic.append(b)
            values[k] = a + b if own else (sigmoid(a) + sigmoid(b)) * (a + b)
        best = max(values, key=values.get, default=None)
        if own:
            rest = x[:T, y, col].max() - max(semantic, default=0) if unknown else -np.inf
            options = [(stuff.max(), -1 - T - int(stuff.argmax()))]
            if best is not None:
                options.append((values[best], best))
            options.append((rest, -1 - T - S))
            result[y, col] = max(options, key=lambda option: option[0])[1]
        elif best is not None and values[best] > stuff.max():
            result[y, col] = best
        else:
            label = int(x[:, y, col].argmax())
            result[y, col] = -1 - (label if label >= T else T + S)
    return result


def decoded(result):
    """As :func:`reference`, of a prediction."""
    ids = result.segment_ids[0].numpy()
    table = {0: -1 - T - S}
    for segment in result.segments_info:
        thing = segment['is_thing']
        table[segment['id']] = segment['detection'] if thing else -1 - segment['category']
    return np.vectorize(table.get)(ids)


@pytest.mark.parametrize('outside', ['zero', 'exclude'])
@pytest.mark.parametrize('rule', ['upsnet', 'efficientps'])
def test_as_pixel_by_pixel(rule, outside):
    for seed in range(40):
        instances, logits, pasted = scene(seed, seed % 6)
        own = dict(region_class=False) if rule == 'upsnet' else {}
        found = head(rule, outside=outside, **own).predict([instances], [logits])[0]
        expected = reference(rule, instances, logits, pasted, outside)
        assert np.array_equal(decoded(found), expected), seed


def test_upsnet_without_unknown():
    for seed in range(20):
        instances, logits, pasted = scene(seed, seed % 6)
        found = head('upsnet', unknown=False, region_class=False).predict([instances], [logits])[0]
        expected = reference('upsnet', instances, logits, pasted, unknown=False)
        assert np.array_equal(decoded(found), expected), seed


def test_jsis_and_mask_wise_as_pixel_by_pixel():
    for seed in range(40):
        instances, logits, pasted = scene(seed, seed % 6)
        probability = np.zeros_like(pasted)
        for k, box in enumerate(instances.bboxes.int().tolist()):
            cells = instances.mask_logits[k].sigmoid().numpy()
            for y in range(box[1], box[3]):
                for x in range(box[0], box[2]):
                    probability[k, y, x] = read(cells, box, x, y)
        masks, x = instances.masks.numpy(), logits.numpy()
        stuff = T + x[T:].argmax(0)
        jsis = -1 - stuff
        for y, col in np.ndindex(jsis.shape):
            claims = [k for k in range(len(masks)) if masks[k, y, col]]
            if claims:
                jsis[y, col] = max(claims, key=lambda k: probability[k, y, col])
        found = head('jsis').predict([instances], [logits])[0]
        assert np.array_equal(decoded(found), jsis), seed

        label = x.argmax(0)
        wise = -1 - np.where(label < T, T + S, label)
        value = [
            instances.scores[k].item() * probability[k][mask].mean() ** 2 if mask.any() else 0
            for k, mask in enumerate(masks)
        ]
        free = np.ones(label.shape, bool)
        for k in sorted(range(len(masks)), key=lambda k: -value[k]):
            area = masks[k].sum()
            if value[k] < 0.25 or not area or (masks[k] & ~free).sum() / area > 0.4:
                continue
            wise[masks[k] & free] = k
            free &= ~masks[k]
        found = head('mask_wise').predict([instances], [logits])[0]
        assert np.array_equal(decoded(found), wise), seed


def test_jsis_gives_small_stuff_to_the_next_likely():
    logits = torch.tensor([[[-9.0, -9, -9]], [[-9.0, -9, -9]], [[2.0, 2, 0]], [[0.0, 0, 1]]])
    empty = scene(0, 0, (1, 3))[0]
    settings = dict(score_thr=0.0, nms=None, stuff_area_limit=2)
    found = LogitFusionHead('jsis', T, S, test_cfg=settings).predict([empty], [logits])[0]
    assert found.sem_seg.tolist() == [[[T, T, T]]]


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_and_inputs_left_alone(rule, dtype):
    instances, logits, _ = scene(3)
    instances.mask_logits = instances.mask_logits.to(dtype)
    before = instances.mask_logits.clone(), logits.clone()
    low = head(rule).predict([instances], [logits.to(dtype)])[0]
    full = head(rule).predict([instances], [logits.to(dtype).float()])[0]
    assert torch.equal(low.segment_ids, full.segment_ids)
    assert torch.equal(before[0], instances.mask_logits)
    assert torch.equal(before[1], logits)


@pytest.mark.parametrize('rule', RULES)
def test_degenerate_inputs(rule):
    empty, logits, _ = scene(0, 0)
    for things, stuff in ((1, 3), (4, 0)):
        head(rule, things, stuff).predict([empty], [logits])
    instances = scene(1)[0]
    instances.masks[:] = False
    instances.masks[0, 0, 0] = True
    instances.bboxes[1] = 2.2  # no pixel's centre lies in it
    head(rule).predict([instances], [logits])
    with pytest.raises(ValueError, match='semantic logits must not be NaN'):
        head(rule).predict([instances], [logits * torch.nan])
    instances.mask_logits[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match='mask_logits must not be NaN'):
        head(rule).predict([instances], [logits])


def test_gradient():
    torch.manual_seed(0)
    logits = torch.randn(4, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 3, 3], [1, 1, 5, 4]], dtype=torch.float64)
    rest = boxes, torch.tensor([0, 1]), T, 'zero', True
    assert torch.autograd.gradcheck(lambda x, m: panoptic_logits(x, m, *rest), (logits, masks))


@pytest.mark.parametrize('count', [0, 1, 3])
def test_loss_is_finite_and_reaches_logits(count):
    instances, logits, _ = scene(2, count, (8, 8))
    logits = logits[None].requires_grad_()
    labels = torch.randint(0, 4, (1, 16, 16), generator=torch.Generator().manual_seed(0))
    labels[0, :4] = 255
    masks = BitmapMasks(np.ones((count, 16, 16), np.uint8), 16, 16)
    sample = SimpleNamespace(
        gt_sem_seg=SimpleNamespace(sem_seg=labels), gt_instances=SimpleNamespace(masks=masks)
    )
    loss = PanopticLoss(T, 0.1)([instances], logits, [sample])
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.abs().sum() > 0
