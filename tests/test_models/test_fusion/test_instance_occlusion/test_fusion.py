"""OCFusion's pairs and fusion against sets of pixels, and by hand."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from mmbanet.models import InstanceOcclusionHead, OcclusionAwareFusionHead
from mmbanet.models.fusion.instance_occlusion.pairs import considered_pairs, pairs_to_learn
from mmbanet.models.oracles import true_preference

T, S = 3, 2
FIELDS = ('bboxes', 'labels', 'scores', 'masks', 'mask_logits', 'roi_features')
SMALL = dict(in_channels=2, roi_size=4, channels=4, fc_channels=5)


class Known(torch.nn.Module):
    """A classifier with one logit for each two of the given detections."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.as_tensor(logits, dtype=torch.float32)
        self.asked = []

    def forward(self, features, mask_logits, pairs):
        self.asked += pairs.tolist()
        return self.logits[pairs[:, 0], pairs[:, 1]]


def head(logits=None, things=T, stuff=S, thresholds=(0.2, 0.5), **settings):
    cfg = dict(score_thr=0.0, nms=None, stuff_area_limit=0)
    cfg.update(zip(('occlusion_thr', 'removal_thr'), thresholds))
    result = InstanceOcclusionHead(things, stuff, test_cfg=cfg, **SMALL, **settings)
    if logits is not None:
        result.classifier = Known(logits)
    return result


def detections(masks, labels=None, scores=None):
    """In descending score unless given."""
    masks = torch.as_tensor(np.asarray(masks)).bool()
    count = len(masks)
    return InstanceData(
        bboxes=torch.zeros(count, 4),
        labels=torch.arange(count) % T if labels is None else torch.as_tensor(labels),
        scores=torch.linspace(0.9, 0.5, count) if scores is None else torch.tensor(scores),
        masks=masks,
        mask_logits=torch.zeros(count, 28, 28),
        roi_features=torch.zeros(count, 2, 4, 4),
    )


def rows(*runs, width=12):
    """Masks of one row: (first, last + 1) of each."""
    masks = np.zeros((len(runs), 1, width), bool)
    for mask, (start, stop) in zip(masks, runs):
        mask[0, start:stop] = True
    return masks


def owners(result):
    """Detection of each pixel, -1 for none."""
    table = {0: -1}
    for segment in result.segments_info:
        table[segment['id']] = segment['detection'] if segment['is_thing'] else -1
    return np.vectorize(table.get)(result.segment_ids[0].numpy())


def fuse(fusion_head, instances):
    size = instances.masks.shape[1:]
    stuff = torch.full(size, fusion_head.num_things_classes)
    (result,) = fusion_head.predict([instances], [stuff])
    return result


# P, T: a person of 10 pixels and the tie of 3 on it. The heuristic drops the tie.
PERSON_AND_TIE = rows((0, 10), (4, 7))
ASKED = dict(front=[[0, -9], [2.0, 0]], behind=[[0, 9], [-2.0, 0]])


@pytest.mark.parametrize(
    ('logits', 'expected'),
    [
        (ASKED['front'], 'PPPPTTTPPP..'),
        (ASKED['behind'], 'PPPPPPPPPP..'),
    ],
)
def test_tie_on_a_person(logits, expected):
    found = owners(fuse(head(logits), detections(PERSON_AND_TIE)))
    assert ''.join('PT.'[k] for k in found[0]) == expected


def test_three_in_a_chain():
    """B takes from A what it occludes; C takes from B, but not from A, which is in front of it."""
    logits = np.full((3, 3), -1.0)
    logits[1, 0] = logits[2, 1] = 1
    instances = detections(rows((0, 6), (3, 9), (5, 12)))
    # A 0-5; B takes 3-8, A keeps 0-2; C takes 6.. of B and what is free: 5 is B's, and so C's.
    assert owners(fuse(head(logits), instances)).tolist() == [[0, 0, 0, 1, 1] + [2] * 7]
    logits[2, 1] = -1
    # Left to C: 9-11 of seven pixels, under a half.
    assert owners(fuse(head(logits), instances)).tolist() == [[0] * 3 + [1] * 6 + [-1] * 3]


def test_who_is_left_out_takes_nothing():
    """B occludes A at 4 and 5, C at none: with 2 of 4 pixels B has no more than a half."""
    logits = np.full((3, 3), -1.0)
    logits[2, 0] = 1
    instances = detections(rows((0, 6), (6, 12), (4, 8)))
    assert owners(fuse(head(logits), instances)).tolist() == [[0] * 6 + [1] * 6]
    kept = owners(fuse(head(logits, thresholds=(0.2, 0.6)), instances))
    assert kept.tolist() == [[0] * 4 + [2] * 2 + [1] * 6]


def test_who_is_emptied_later_is_gone():
    logits = [[0, -1], [1, 0]]
    result = fuse(head(logits), detections(rows((2, 4), (0, 12))))
    assert owners(result).tolist() == [[1] * 12]
    assert result.occlusion.keep.tolist() == [False, True]


@pytest.mark.parametrize(
    ('settings', 'taken'),
    [
        (dict(), True),
        (dict(logit_thr=0.5), False),  # as in the authors' code
        (dict(antisymmetric=True), False),  # (0.3 - 0.4) / 2
        (dict(fusion='order'), False),
        (dict(symmetric=False), True),  # R of the tie is 1
        (dict(thresholds=(0.31, 0.5)), True),
    ],
)
def test_settings_of_the_decision(settings, taken):
    classified = head([[0, 0.4], [0.3, 0]], **settings)
    assert (1 in owners(fuse(classified, detections(PERSON_AND_TIE)))) == taken


def test_only_the_mask_of_the_lower_score_counts_where_pairs_are_not_symmetric():
    """The tie has the higher score: the overlap is all of it, and 0.3 of the person."""
    logits = [[0, 0], [1, 0]]
    instances = detections(rows((4, 7), (0, 10)))
    for thr, symmetric, asked in ((0.31, True, 1), (0.31, False, 0), (0.3, False, 1)):
        fusion_head = head(logits, thresholds=(thr, 0.5), symmetric=symmetric)
        fuse(fusion_head, instances)
        assert len(fusion_head.classifier.asked) == asked


def test_pairs_of_one_class_are_left_to_the_score():
    instances = detections(PERSON_AND_TIE, labels=[1, 1])
    assert 1 not in owners(fuse(head(ASKED['front']), instances))
    assert 1 in owners(fuse(head(ASKED['front'], same_class=True), instances))


def test_pairs_to_learn():
    order = torch.tensor([[0, 1, 0], [-1, 0, -1], [0, 1, 0]], dtype=torch.int8)
    pairs = torch.tensor([[1, 0], [2, 0], [2, 1]])
    asked, targets = pairs_to_learn(pairs, order, 128)
    assert asked.tolist() == [[1, 0], [2, 1], [0, 1], [1, 2]]
    assert targets.tolist() == [0, 1, 1, 0]
    asked, targets = pairs_to_learn(pairs, order, 1)
    assert asked.tolist()[0] == asked.tolist()[1][::-1]
    assert targets.sum() == 1


def reference(masks, labels, logits, ties, rho, tau, symmetric, same_class, both):
    """Sets of pixels, as the paper's algorithm has it."""
    pixels = [set(zip(*mask.nonzero())) for mask in masks]
    laid = {}
    for i, mask in enumerate(pixels):
        if not mask:
            continue
        mine = mask - set().union(*laid.values()) if laid else set(mask)
        taken_from = {}
        for j in laid:
            shared = mask & pixels[j]
            share = len(shared) / len(mask)
            if symmetric:
                share = max(share, len(shared) / len(pixels[j]))
            if not shared or share < rho or (labels[i] == labels[j] and not same_class):
                continue
            logit = (logits[i, j] - logits[j, i]) / 2 if both else logits[i, j]
            if logit > ties:
                taken_from[j] = laid[j] & shared
                mine |= taken_from[j]
        if len(mine) / len(mask) <= tau:
            continue
        for j, lost in taken_from.items():
            laid[j] = laid[j] - lost
        laid[i] = mine
    owner = np.full(masks.shape[1:], -1)
    for k, mine in laid.items():
        for pixel in mine:
            owner[pixel] = k
    return owner


def scene(seed, count=None):
    """Rectangles of random order, half of them noisy."""
    rng = np.random.default_rng(seed)
    count = seed % 7 if count is None else count
    masks = np.zeros((count, 9, 11), bool)
    for mask in masks:
        (y1, y2), (x1, x2) = (np.sort(rng.choice(n + 1, 2, replace=False)) for n in mask.shape)
        mask[y1:y2, x1:x2] = rng.random((y2 - y1, x2 - x1)) < rng.choice([0.7, 1.1])
    labels = rng.integers(0, T, count)
    return masks, labels, rng.normal(size=(count, count)).astype(np.float32)


@pytest.mark.parametrize('symmetric', [True, False])
@pytest.mark.parametrize('same_class', [True, False])
@pytest.mark.parametrize(('both', 'thr'), [(False, 0.0), (False, 0.5), (True, 0.1)])
def test_as_pixel_by_pixel(symmetric, same_class, both, thr):
    differ = 0
    for seed in range(60):
        masks, labels, logits = scene(seed)
        settings = dict(symmetric=symmetric, same_class=same_class)
        fusion_head = head(logits, antisymmetric=both, logit_thr=thr, **settings)
        found = owners(fuse(fusion_head, detections(masks, labels)))
        expected = reference(masks, labels, logits, thr, 0.2, 0.5, both=both, **settings)
        assert np.array_equal(found, expected), seed
        by_score = reference(masks, labels, logits, np.inf, 0.2, 0.5, both=both, **settings)
        differ += not np.array_equal(expected, by_score)
    assert differ > 5


def test_pairs_by_loop():
    for seed in range(40):
        masks, labels, _ = scene(seed)
        flat = torch.from_numpy(masks.reshape(len(masks), 99)).double()
        found = considered_pairs(flat @ flat.T, torch.from_numpy(labels), 0.3)
        expected = []
        for i in range(len(masks)):
            for j in range(i):
                both = (masks[i] & masks[j]).sum()
                shares = [both / mask.sum() for mask in (masks[i], masks[j]) if mask.any()]
                if both and max(shares) >= 0.3 and labels[i] != labels[j]:
                    expected.append([i, j])
        assert found.tolist() == expected


def layers(seed, count=5):
    """Overlapping masks, and what is visible of each if they lie on another in random order."""
    masks, labels, _ = scene(seed, count)
    visible, taken = masks.copy(), np.zeros(masks.shape[1:], bool)
    for k in np.random.default_rng(seed).permutation(count):
        visible[k] &= ~taken
        taken |= visible[k]
    return masks, labels, torch.from_numpy(visible)


@pytest.mark.parametrize(
    ('fusion', 'removal_thr'), [('order', 0.5), ('order', 1.0), ('greedy', 1.0)]
)
def test_oracle_classifier_is_our_oracle_order(fusion, removal_thr):
    """With every overlapping pair asked. Greedy removal looks at objects one after another."""
    differ = 0
    for seed in range(60):
        masks, labels, visible = layers(seed)
        instances = detections(masks, labels)
        truth = true_preference(instances.masks, torch.arange(len(masks)), visible)
        asked = head(truth, thresholds=(0.0, removal_thr), fusion=fusion, same_class=True)
        ours = OcclusionAwareFusionHead(T, S, order=[], test_cfg=asked.test_cfg)
        size = masks.shape[1:]
        (expected,) = ours.predict([instances], [torch.full(size, T)], preferences=[truth])
        found = fuse(asked, instances)
        assert np.array_equal(owners(found), owners(expected)), seed
        # What is known beats the classifier.
        asked.classifier.logits *= -1
        (told,) = asked.predict([instances], [torch.full(size, T)], preferences=[truth])
        assert np.array_equal(owners(told), owners(expected)), seed
        (by_score,) = ours.predict([instances], [torch.full(size, T)])
        differ += not np.array_equal(owners(expected), owners(by_score))
    assert differ > 20


def test_the_graph_says_who_is_in_front():
    logits = [[0, 0], [1, 0]]
    graph = fuse(head(logits), detections(PERSON_AND_TIE)).occlusion
    assert graph.pairs.tolist() == [[1, 0]]
    assert graph.rules == ['preference']
    assert graph.in_front.tolist() == [[False, False], [True, False]]
    assert graph.areas.tolist() == [10, 3]
    assert graph.keep.tolist() == [True, True]


@pytest.mark.parametrize('fusion', ['greedy', 'order'])
def test_degenerate_inputs(fusion):
    for things, stuff in ((1, 3), (4, 0)):
        fusion_head = head(things=things, stuff=stuff, fusion=fusion, same_class=True)
        empty = detections(np.zeros((0, 2, 3), bool))
        semantics = torch.full((2, 3), things + stuff)
        (result,) = fusion_head.predict([empty], [semantics])
        assert (result.sem_seg == things + stuff).all()
        one = detections(np.ones((1, 1, 1), bool))
        (result,) = fusion_head.predict([one], [semantics[:1, :1]])
        assert owners(result).tolist() == [[0]]
    # Masks without a pixel, and two that do not touch.
    for masks in (np.zeros((3, 2, 3), bool), rows((0, 3), (3, 6))):
        found = owners(fuse(head(fusion=fusion), detections(masks)))
        assert set(found.flat) == ({-1} if not masks.any() else {0, 1, -1})
    assert fuse(head(fusion=fusion), detections(np.ones((2, 1, 1), bool))).segments_info


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_inputs_of_half_precision_are_left_alone(dtype):
    masks, labels, _ = scene(5)
    instances = detections(masks, labels)
    instances.mask_logits = torch.randn(len(masks), 28, 28).to(dtype)
    instances.roi_features = torch.randn(len(masks), 2, 4, 4).to(dtype)
    before = {name: instances[name].clone() for name in FIELDS}
    fusion_head = head().eval()
    with torch.autocast('cpu', torch.bfloat16):
        result = fuse(fusion_head, instances)
        assert torch.equal(result.segment_ids, fuse(fusion_head, instances).segment_ids)
    assert all(torch.equal(instances[name], value) for name, value in before.items())


def test_missing_fields():
    instances = detections(PERSON_AND_TIE)
    del instances.roi_features
    with pytest.raises(ValueError, match=r'must have roi_features, .* got None'):
        fuse(head(), instances)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(fusion='other'), 'fusion must be one of'),
        (dict(order=[dict(type='mmbanet.SmallerInFront')]), "order: only with fusion='order'"),
        (dict(duplicates=dict(type='mmbanet.DuplicateFilter')), 'duplicates: only with fusion'),
        (dict(order=None), 'order must be an order rule'),
        (dict(num_pairs=0), 'num_pairs must be at least 1'),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        InstanceOcclusionHead(T, S, **SMALL, **settings)
