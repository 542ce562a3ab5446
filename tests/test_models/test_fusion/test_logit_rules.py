"""The rules of fusion by logits against a loop over pixels, on tiny maps."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from mmbanet.models import LogitFusionHead
from mmbanet.models.fusion.logit_rules.boxes import box_window, resize_into_box
from mmbanet.models.fusion.logit_rules.panoptic_loss import PanopticLoss, panoptic_logits
from mmbanet.models.semantic.logits import resized_logits

T, S = 2, 2
RULES = ('upsnet', 'efficientps', 'jsis', 'mask_wise')
HIGH = math.log(3 + math.exp(3))  # cross entropy of 0 where another has 3 and two more 0
SETTINGS = [
    ('upsnet', {}),
    ('upsnet', dict(outside='exclude')),
    ('upsnet', dict(unknown=False)),
    ('efficientps', {}),
    ('efficientps', dict(outside='exclude', mask_logit_scale=4.0)),
    ('jsis', {}),
    ('mask_wise', {}),
    ('mask_wise', dict(stuff='masks')),
]


def head(rule, num_things=T, num_stuff=S, **settings):
    cfg = dict(score_thr=0.0, nms=None, stuff_area_limit=0, **settings)
    return LogitFusionHead(rule, num_things, num_stuff, test_cfg=cfg)


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


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_rounds_no_mask_logits(dtype):
    logits, box = torch.randn(28, 28) * 4, torch.tensor([3.0, 5, 70, 50])
    window = box_window(box, (80, 90))
    expected = resize_into_box(logits, box, window)
    with torch.autocast('cpu', dtype):
        assert torch.equal(resize_into_box(logits, box, window), expected)


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


def as_stuff(owner, likely, count):
    """Instances become the stuff that most, and at least half, of their pixels are likely to be."""
    result = owner.copy()
    for k in range(count):
        pixels = list(zip(*(owner == k).nonzero()))
        votes = [likely[pixel] for pixel in pixels]
        most = max(sorted(set(votes)), key=votes.count, default=0)
        if most >= T and votes.count(most) >= len(votes) / 2:
            for pixel in pixels:
                result[pixel] = -1 - most
    return result


@pytest.mark.parametrize('outside', ['zero', 'exclude'])
def test_class_of_a_region_of_upsnet(outside):
    changed = 0
    for seed in range(60):
        instances, logits, pasted = scene(seed, seed % 6)
        found = head('upsnet', outside=outside).predict([instances], [logits])[0]
        before = reference('upsnet', instances, logits, pasted, outside)
        expected = as_stuff(before, logits.numpy().argmax(0), len(instances))
        assert np.array_equal(decoded(found), expected), seed
        changed += not np.array_equal(before, expected)
    assert changed > 5


def at_stride_4(logits, size):
    """Resized by PyTorch as a whole."""
    return F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)[0]


@pytest.mark.parametrize('rule', ['upsnet', 'efficientps', 'jsis', 'mask_wise'])
@pytest.mark.parametrize('outside', ['zero', 'exclude'])
def test_logits_of_stride_4(rule, outside):
    """As with logits that are resized before, in which a rounding may decide a pixel."""
    size = (29, 38)
    own = dict(outside=outside) if rule in ('upsnet', 'efficientps') else {}
    for seed in range(10):
        instances = scene(seed, 5, size)[0]
        logits = scene(seed, 0, (8, 10))[1]
        found = head(rule, **own).predict([instances], [logits])[0]
        expected = head(rule, **own).predict([instances], [at_stride_4(logits, size)])[0]
        assert (decoded(found) != decoded(expected)).sum() <= 1, seed


def test_stuff_as_masks_of_logits_of_stride_4():
    """The quality of stuff is that of the cells; its pixels are those of the resized logits."""
    size = (29, 38)
    laid = 0
    for seed in range(20):
        instances = scene(seed, 4, size)[0]
        logits = scene(seed, 0, (8, 10))[1]
        items = []
        for k, box in enumerate(instances.bboxes.int().tolist()):
            pixels = set(zip(*instances.masks[k].numpy().nonzero()))
            cells = instances.mask_logits[k].sigmoid().numpy()
            values = [read(cells, box, x, y) for y, x in pixels]
            value = instances.scores[k].item() * np.mean(values) ** 2 if pixels else 0
            items.append((value, k, pixels, 0.4))
        likely = at_stride_4(logits, size).numpy().argmax(0)
        for label in range(T, T + S):
            values = []
            for y, x in np.ndindex(8, 10):
                cell = logits[:, y, x].double().exp()
                if cell.argmax() == label:
                    values.append((cell[label] / cell.sum()).item())
            if values:
                pixels = set(zip(*(likely == label).nonzero()))
                items.append((np.mean(values) ** 2, -1 - label, pixels, 0.2))
        expected, taken = np.full(size, -1 - T - S), set()
        for value, code, pixels, limit in sorted(items, key=lambda item: -item[0]):
            if value >= 0.25 and pixels and len(pixels & taken) / len(pixels) <= limit:
                for pixel in pixels - taken:
                    expected[pixel] = code
                taken |= pixels
                laid += code < 0
        found = head('mask_wise', stuff='masks').predict([instances], [logits])[0]
        assert (decoded(found) != expected).sum() <= 1, seed
    assert laid > 5


@pytest.mark.parametrize(('rule', 'own'), SETTINGS)
def test_padding_of_the_batch_makes_no_difference(rule, own):
    size = (32, 40)
    meta = dict(img_shape=size, ori_shape=size)
    for seed in range(20):
        instances = scene(seed, 4, size)[0]
        logits = scene(seed, 0, (8, 10))[1]
        # The outermost pixels look at the next cells, which are as those at the border.
        padded = F.pad(F.pad(logits[None], (0, 1, 0, 1), mode='replicate'), (0, 9, 0, 7))
        padded[:, T, 9:], padded[:, T, :, 11:] = 0.1, 0.1
        maps = []
        for given, shape in ((logits[None], size), (padded, (64, 80))):
            semantics = resized_logits(given, [dict(meta, batch_input_shape=shape)], False, 'all')
            maps.append(decoded(head(rule, **own).predict([instances], semantics)[0]))
        assert (maps[0] != maps[1]).sum() <= 1, seed


@pytest.mark.parametrize(('rule', 'own'), SETTINGS)
def test_the_same_again_and_with_more_threads(rule, own):
    instances, logits, _ = scene(5, 5, (60, 80))
    threads = torch.get_num_threads()
    try:
        maps = []
        for count in (1, 1, 3):
            torch.set_num_threads(count)
            maps.append(head(rule, **own).predict([instances], [logits])[0].segment_ids)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


@pytest.mark.parametrize(('rule', 'own'), SETTINGS)
class TestDegenerateInputs:
    def test_no_instances(self, rule, own):
        """The semantic prediction, in which things are void; JSIS has the best stuff instead."""
        empty, logits, _ = scene(0, 0)
        likely = logits[T if rule == 'jsis' else 0 :].argmax(0) + (T if rule == 'jsis' else 0)
        if own.get('unknown') is False:
            likely = logits[T:].argmax(0) + T
        found = head(rule, **own).predict([empty], [logits])[0]
        if own.get('stuff') == 'masks':  # stuff may have too little confidence
            assert set(decoded(found).ravel()) <= {-1 - T - S, -1 - T, -2 - T}
            return
        assert np.array_equal(decoded(found), -1 - np.where(likely < T, T + S, likely))

    @pytest.mark.parametrize(('things', 'stuff'), [(1, 3), (4, 0)])
    def test_one_thing_class_or_no_stuff(self, rule, own, things, stuff):
        instances, logits, _ = scene(1, 3)
        instances.labels[:] = 0
        instances.mask_logits += 20
        instances.masks = torch.zeros_like(instances.masks)
        for mask, (x1, y1, x2, y2) in zip(instances.masks, instances.bboxes.int().tolist()):
            mask[y1:y2, x1:x2] = True
        found = head(rule, things, stuff, **own).predict([instances], [logits])[0]
        assert any(segment['is_thing'] for segment in found.segments_info)
        if stuff == 0:
            assert all(segment['is_thing'] for segment in found.segments_info)

    def test_one_pixel(self, rule, own):
        instances = InstanceData(
            bboxes=torch.tensor([[0.0, 0, 1, 1]]),
            labels=torch.tensor([1]),
            scores=torch.tensor([0.9]),
            masks=torch.ones(1, 1, 1, dtype=torch.bool),
            mask_logits=torch.full((1, 3, 3), 9.0),
        )
        logits = torch.tensor([0.0, 1, 0.5, 0.5])[:, None, None]
        found = head(rule, **own).predict([instances], [logits])[0]
        assert decoded(found).tolist() == [[0]]

    def test_empty_masks_and_boxes_without_a_pixel(self, rule, own):
        instances, logits, _ = scene(1)
        instances.masks[:] = False
        instances.bboxes[1] = 2.2  # no pixel's centre lies in it
        empty = scene(0, 0)[0]
        found = head(rule, **own).predict([instances], [logits])[0]
        expected = head(rule, **own).predict([empty], [logits])[0]
        assert torch.equal(found.segment_ids, expected.segment_ids)
        # Out of the image, with a pixel of mask all the same.
        instances.masks[0, 0, 0] = True
        instances.bboxes[0] = torch.tensor([-9.0, -9, -5, -5])
        head(rule, **own).predict([instances], [logits])

    def test_all_void(self, rule, own):
        """Nothing is stuff enough."""
        empty, logits, _ = scene(0, 0)
        cfg = dict(score_thr=0.0, nms=None, stuff_area_limit=logits[0].numel() + 1, **own)
        found = LogitFusionHead(rule, T, S, test_cfg=cfg).predict([empty], [logits])[0]
        assert found.segments_info == []
        assert (found.segment_ids == 0).all()
        assert (found.sem_seg == T + S).all()


@pytest.mark.parametrize('rule', RULES)
def test_values_that_are_not_finite_are_refused(rule):
    instances, logits, _ = scene(1)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match='semantic logits must be finite'):
            head(rule).predict([instances], [logits * bad])
    instances.mask_logits[0, 0, 0] = -torch.inf
    with pytest.raises(ValueError, match='mask_logits must be finite'):
        head(rule).predict([instances], [logits])


def test_a_thousand_classes_have_segment_ids_only():
    with pytest.warns(UserWarning, match='cannot tell 1000 classes and 0 things apart'):
        found = head('jsis', 600, 400).predict([scene(0, 0)[0]], [torch.zeros(1000, 7, 9)])[0]
    assert 'sem_seg' not in found


@pytest.mark.parametrize('outside', ['zero', 'exclude'])
@pytest.mark.parametrize('unknown', [True, False])
def test_gradient(outside, unknown):
    torch.manual_seed(0)
    logits = torch.randn(4, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 3, 3], [1, 1, 5, 4]], dtype=torch.float64)
    rest = boxes, torch.tensor([0, 1]), T, outside, unknown

    def finite_logits(x, m):
        values = panoptic_logits(x, m, *rest)
        return values[values.isfinite()]

    assert torch.autograd.gradcheck(finite_logits, (logits, masks))


@pytest.mark.parametrize(
    ('count', 'void', 'unknown', 'expected'),
    [
        (0, 0, True, math.log(3)),  # two stuff classes and unknown, equally likely
        (0, 4, True, math.log(3) / 2),  # void counts in the mean, with nothing
        (0, 0, False, math.log(2)),
        # Of the 4 x 4 object, which lies on void, half of the cells; the logit of its mask is 3:
        # -log(e^3 / (e^3 + 3)) on 8 of 64 cells, log 4 on the 32 outside of box and void, and in
        # the lower half of the box a stuff pixel is not as likely as the object.
        (1, 4, True, (8 * math.log(1 + 3 * math.exp(-3)) + 24 * math.log(4) + 8 * HIGH) / 64),
    ],
)
def test_loss_by_hand(count, void, unknown, expected):
    """All logits are 0; the box of the one object is rows 2 to 5, its mask the upper two."""
    instances = InstanceData(
        bboxes=torch.tensor([[2.0, 2, 6, 6]])[:count],
        labels=torch.tensor([0])[:count],
        mask_logits=torch.full((count, 1, 1), 3.0),
    )
    labels = torch.full((1, 8, 8), T)
    labels[0, :void] = 255
    mask = np.zeros((count, 8, 8), np.uint8)
    mask[:, 2:4, 2:6] = 1
    sample = SimpleNamespace(
        gt_sem_seg=SimpleNamespace(sem_seg=labels),
        gt_instances=SimpleNamespace(masks=BitmapMasks(mask, 8, 8)),
    )
    loss = PanopticLoss(T, 0.1, unknown=unknown)([instances], torch.zeros(1, T + S, 8, 8), [sample])
    assert loss.item() == pytest.approx(0.1 * expected, rel=1e-5)


@pytest.mark.parametrize('outside', ['zero', 'exclude'])
def test_a_mask_that_reaches_beyond_its_box_has_a_finite_loss(outside):
    instances, logits, _ = scene(2, 1, (8, 8))
    instances.bboxes = torch.tensor([[2.6, 2.0, 6.0, 6.0]])
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, 2:6, 2:6] = 1
    sample = SimpleNamespace(
        gt_sem_seg=SimpleNamespace(sem_seg=torch.full((1, 8, 8), T)),
        gt_instances=SimpleNamespace(masks=BitmapMasks(mask, 8, 8)),
    )
    logits.requires_grad_()
    loss = PanopticLoss(T, 0.1, outside)([instances], logits[None], [sample])
    loss.backward()
    assert 0 < loss.item() < 10
    assert logits.grad.isfinite().all()


def test_masks_need_not_be_padded_for_the_loss():
    instances, logits, _ = scene(2, 1, (8, 8))
    labels = torch.full((1, 16, 16), 255)
    labels[0, :8, :8] = T
    losses = []
    for size in (8, 16):
        mask = np.zeros((1, size, size), np.uint8)
        mask[0, :4, :4] = 1
        sample = SimpleNamespace(
            gt_sem_seg=SimpleNamespace(sem_seg=labels),
            gt_instances=SimpleNamespace(masks=BitmapMasks(mask, size, size)),
        )
        losses.append(PanopticLoss(T, 0.1)([instances], logits[None], [sample]))
    assert torch.equal(*losses)


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize('count', [0, 1, 3])
def test_loss_is_finite_and_reaches_logits(count, amp):
    instances, logits, _ = scene(2, count, (8, 8))
    logits = logits[None].requires_grad_()
    labels = torch.randint(0, 4, (1, 16, 16), generator=torch.Generator().manual_seed(0))
    labels[0, :4] = 255
    masks = BitmapMasks(np.ones((count, 16, 16), np.uint8), 16, 16)
    sample = SimpleNamespace(
        gt_sem_seg=SimpleNamespace(sem_seg=labels), gt_instances=SimpleNamespace(masks=masks)
    )
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        given = logits.bfloat16() if amp else logits
        loss = PanopticLoss(T, 0.1)([instances], given, [sample])
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.abs().sum() > 0
