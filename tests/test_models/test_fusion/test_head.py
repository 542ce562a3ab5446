import json
from collections import Counter

import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmbanet.models.fusion import OcclusionAwareFusionHead
from mmbanet.registry import MODELS

from ...conftest import DEVICES
from .scenes import random_scene

THINGS, STUFF = 4, 3
VOID = THINGS + STUFF
MEAN_COLOR, SMALLER = dict(type='mmbanet.MeanColor'), dict(type='mmbanet.SmallerInFront')


def settings(**changes):
    cfg = dict(score_thr=0.0, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=0)
    return ConfigDict({**cfg, **changes})


def make_head(order=MEAN_COLOR, **changes):
    return OcclusionAwareFusionHead(THINGS, STUFF, order, test_cfg=settings(**changes))


def make_instances(masks, scores, labels, boxes=None):
    count = len(masks)
    return InstanceData(
        bboxes=torch.zeros(count, 4) if boxes is None else torch.tensor(boxes),
        scores=torch.as_tensor(scores),
        labels=torch.as_tensor(labels),
        masks=torch.as_tensor(masks).bool(),
    )


def random_inputs(seed, channels):
    scene = random_scene(seed, max_objects=10)
    generator = torch.Generator().manual_seed(seed)
    count, height, width = scene['masks'].shape
    scores = (torch.randperm(count, generator=generator) + 1) / 16
    labels = torch.randint(THINGS, (count,), generator=generator)
    instances = make_instances(scene['masks'], scores, labels)
    # Few values, so that channels are equal often.
    logits = torch.randint(4, (channels, height, width), generator=generator).float()
    return instances, logits, torch.from_numpy(scene['image'])


def tie_on_person():
    """A 3 x 4 image of a grey person under a red tie, on stuff and unowned thing pixels."""
    person, tie = torch.zeros(2, 3, 4)
    person[:, 1:] = 1
    tie[1:, 2] = 1
    image = torch.full((3, 3, 4), 90.0)
    image[:, 1:, 2] = torch.tensor([[200.0], [20.0], [20.0]])
    logits = torch.zeros(VOID, 3, 4)
    logits[THINGS + 1] = 1.0  # stuff everywhere
    logits[0, 0, 0] = 2.0  # but here a thing that no instance owns
    instances = make_instances(torch.stack([person, tie]), [0.9, 0.7], [0, 3])
    return instances, logits, image


def test_appearance_puts_the_tie_on_the_person():
    instances, logits, image = tie_on_person()
    person, tie, stuff = INSTANCE_OFFSET, 3 + 2 * INSTANCE_OFFSET, THINGS + 1
    (result,) = make_head().predict([instances], [logits], [image])
    assert result.sem_seg.dtype == torch.int32
    assert result.sem_seg.tolist() == [
        [
            [VOID, person, person, person],
            [stuff, person, tie, person],
            [stuff, person, tie, person],
        ]
    ]


def test_score_order_hides_the_tie():
    instances, logits, _ = tie_on_person()
    person, stuff = INSTANCE_OFFSET, THINGS + 1
    (result,) = make_head(None).predict([instances], [logits])
    assert result.sem_seg.tolist() == [
        [
            [VOID, person, person, person],
            [stuff, person, person, person],
            [stuff, person, person, person],
        ]
    ]


def test_the_smaller_in_front():
    instances, logits, image = tie_on_person()
    (by_appearance,) = make_head().predict([instances], [logits], [image])
    (by_size,) = make_head(SMALLER).predict([instances], [logits])
    assert torch.equal(by_size.sem_seg, by_appearance.sem_seg)
    # The tie, two pixels larger than the person, is now behind and keeps what sticks out.
    instances.masks[1] = True
    (by_size,) = make_head(SMALLER).predict([instances], [logits])
    assert (by_size.sem_seg[0, :, 1:] == INSTANCE_OFFSET).all()


def test_segments_say_what_decided_their_overlaps():
    instances, logits, image = tie_on_person()
    instances = instances[[1, 0]]  # detection 0 is the tie
    (result,) = make_head().predict([instances], [logits], [image])
    assert result.segment_ids.tolist() == [[[0, 1, 1, 1], [3, 1, 2, 1], [3, 1, 2, 1]]]
    common = dict(rule='MeanColor', set_aside=False)
    assert result.segments_info == [
        dict(id=1, category=0, is_thing=True, score=pytest.approx(0.9), area=7, detection=1)
        | dict(overlaps=[dict(detection=0, segment=2, in_front=False, **common)]),
        dict(id=2, category=3, is_thing=True, score=pytest.approx(0.7), area=2, detection=0)
        | dict(overlaps=[dict(detection=1, segment=1, in_front=True, **common)]),
        dict(id=3, category=THINGS + 1, is_thing=False, score=None, area=2),
    ]
    json.dumps(result.segments_info)
    assert result.detections.tolist() == [1, 0]
    assert result.occlusion.pairs.tolist() == [[1, 0]]  # the tie in front of the person
    (result,) = make_head(None).predict([instances], [logits])
    (overlap,) = result.segments_info[0]['overlaps']
    assert overlap == dict(detection=0, segment=None, in_front=True, rule='score', set_aside=False)
    assert result.occlusion.keep.tolist() == [True, False]


def test_segments_agree_with_the_maps():
    for seed in range(50):
        instances, logits, image = random_inputs(seed, VOID)
        (result,) = make_head(stuff_area_limit=3).predict([instances], [logits], [image])
        pairs = torch.stack([result.segment_ids.flatten(), result.sem_seg.flatten()], dim=1)
        found = {i: (label, n) for (i, label), n in Counter(map(tuple, pairs.tolist())).items()}
        assert len(found) == len(pairs.unique(dim=0))  # one to one
        assert found.pop(0, (VOID, 0))[0] == VOID
        assert set(found) == {segment['id'] for segment in result.segments_info}
        for segment in result.segments_info:
            instance = segment['id'] if segment['is_thing'] else 0
            expected = segment['category'] + INSTANCE_OFFSET * instance
            assert found[segment['id']] == (expected, segment['area'])
            if segment['is_thing']:
                mask = instances.masks[segment['detection']]
                assert mask[result.segment_ids[0] == segment['id']].all()


def test_a_thousand_classes_have_segment_ids_only():
    head = OcclusionAwareFusionHead(600, 400, None, test_cfg=settings())
    instances, _, _ = tie_on_person()
    with pytest.warns(UserWarning, match='cannot tell 1000 classes and 1 things apart'):
        (result,) = head.predict([instances], [torch.full((3, 4), 999)])
    assert 'sem_seg' not in result
    assert [s['category'] for s in result.segments_info] == [0, 999]
    assert result.segment_ids.unique().tolist() == [1, 2]


@pytest.mark.parametrize('rule', ['MeanColor', 'LabGaussian', 'ColorHistogram', 'SmallerInFront'])
def test_order_rules_are_chosen_by_config(rule):
    cfg = dict(type='mmbanet.OcclusionAwareFusionHead', num_things_classes=THINGS)
    cfg.update(num_stuff_classes=STUFF, order=dict(type=f'mmbanet.{rule}'))
    head = MODELS.build(dict(cfg, test_cfg=settings()))
    assert head.needs_images == (rule != 'SmallerInFront')
    instances, logits, image = tie_on_person()
    (result,) = head.predict([instances], [logits], [image])
    assert result.occlusion.rules == [rule]
    assert result.segment_ids.tolist() == [[[0, 1, 1, 1], [3, 1, 2, 1], [3, 1, 2, 1]]]


def test_the_next_rule_is_asked_where_one_cannot_tell():
    instances, logits, image = tie_on_person()
    grey = torch.full_like(image, 90.0)
    head = make_head([MEAN_COLOR, SMALLER])
    for picture, rule in ((image, 'MeanColor'), (grey, 'SmallerInFront')):
        (result,) = head.predict([instances], [logits], [picture])
        assert result.occlusion.rules == [rule]
        assert result.segment_ids.tolist() == [[[0, 1, 1, 1], [3, 1, 2, 1], [3, 1, 2, 1]]]
    (result,) = make_head().predict([instances], [logits], [grey])
    assert result.occlusion.rules == ['score']


@pytest.mark.parametrize('device', DEVICES)
def test_score_order_is_mmdets_heuristic_head(device):
    theirs = HeuristicFusionHead(
        THINGS, STUFF, test_cfg=ConfigDict(mask_overlap=0.5, stuff_area_limit=20)
    )
    head = make_head(None, stuff_area_limit=20)
    for seed in range(200):
        instances, logits, _ = random_inputs(seed, STUFF + 1)
        instances, logits = instances.to(device), logits.to(device)
        (expected,) = theirs.predict([instances], [logits])
        (got,) = head.predict([instances], [logits])
        assert torch.equal(got.sem_seg, expected.sem_seg), seed


def test_batch_of_different_sizes_leaves_the_inputs_alone():
    inputs = [random_inputs(seed, VOID) for seed in range(3)]
    before = [(i.clone(), logits.clone(), image.clone()) for i, logits, image in inputs]
    results = make_head(score_thr=0.2).predict(*zip(*inputs))
    assert [r.sem_seg.shape[1:] for r in results] == [image.shape[1:] for _, _, image in inputs]
    for old, new in zip(before, inputs):
        assert all(torch.equal(old[0][name], new[0][name]) for name in old[0].keys())  # noqa: SIM118
        assert torch.equal(old[1], new[1])
        assert torch.equal(old[2], new[2])


@pytest.mark.parametrize('order', [MEAN_COLOR, None])
def test_no_instances(order):
    instances = make_instances(torch.zeros(0, 2, 2), torch.zeros(0), torch.zeros(0).long())
    logits = torch.zeros(VOID, 2, 2)
    logits[THINGS] = 1
    head = make_head(order, nms=dict(type='nms', iou_threshold=0.5))
    (result,) = head.predict([instances], [logits], [torch.zeros(3, 2, 2)])
    assert (result.sem_seg == THINGS).all()


def test_detections_are_selected_first():
    # 1 is a duplicate of 0, 2 scores too low.
    masks = torch.zeros(3, 4, 4)
    masks[:2, :2] = 1
    masks[2, 2:] = 1
    boxes = [[0.0, 0, 4, 2], [0, 0, 4, 2], [0, 2, 4, 4]]
    instances = make_instances(masks, [0.7, 0.8, 0.6], [1, 2, 3], boxes)
    head = make_head(score_thr=0.65, nms=dict(type='nms', iou_threshold=0.5))
    logits = torch.zeros(VOID, 4, 4)
    (result,) = head.predict([instances], [logits], [torch.zeros(3, 4, 4)])
    assert result.sem_seg.unique().tolist() == [VOID, 2 + INSTANCE_OFFSET]


def test_is_built_from_a_config_and_has_no_loss():
    head = MODELS.build(dict(type='mmbanet.OcclusionAwareFusionHead'))
    assert (head.num_things_classes, head.num_stuff_classes, head.num_classes) == (80, 53, 133)
    assert head.loss() == {}
    assert not list(head.parameters())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(order=[MEAN_COLOR, dict(type='mmbanet.RoIInlay')]), 'order must be .*got RoIInlay'),
        (dict(test_cfg=dict(mask_overlap=0.5)), 'missing: score_thr.*unknown: mask_overlap'),
        (dict(test_cfg=settings(max_num=3)), 'missing: none; unknown: max_num'),
        (dict(test_cfg=settings(pairs='some')), r"pairs must be one of .*got 'some'"),
        (dict(test_cfg=settings(removal='once')), r"removal must be one of .*got 'once'"),
        (dict(order=None, test_cfg=settings(removal='once')), r"removal must be one of .*'once'"),
        (dict(order=None, test_cfg=settings(removal='joint')), 'removal: not with order=None'),
        (dict(order=None, test_cfg=settings(pairs='all')), 'pairs: not with order=None'),
        (dict(test_cfg=settings(occlusion_thr=20)), r'occlusion_thr must be in 0\.\.1, got 20'),
        (dict(test_cfg=settings(removal_thr=-1)), r'removal_thr must be in 0\.\.1, got -1'),
        (dict(test_cfg=settings(removal_thr='0.5')), "removal_thr must be a number.*got '0.5'"),
        (dict(test_cfg=settings(score_thr='0.6')), "score_thr must be a number, got '0.6'"),
        (dict(test_cfg=settings(score_thr=float('nan'))), 'score_thr must be a number, got NaN'),
        (dict(test_cfg=settings(nms=dict(type='nms', iou=0.5))), "nms_cfg.*argument 'iou'"),
        (dict(test_cfg=settings(nms=dict(type='nmz'))), "nms_cfg.*name 'nmz' is not defined"),
        (dict(test_cfg=settings(nms=0.5)), 'nms must be a dict or None, got 0.5'),
        (dict(test_cfg=settings(stuff_area_limit=-1)), 'must be a number of pixels, got -1'),
        (dict(order=dict(type='mmdet.ResNet', depth=18)), 'order must be .*got ResNet'),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=message):
        OcclusionAwareFusionHead(**changes)


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        ([-1, 0], r'0\.\.3 with num_things_classes=4, got -1\.\.0'),
        ([0, 4], r'0\.\.3 with num_things_classes=4, got 0\.\.4'),
        ([0.0, 1.0], 'labels must be an integer tensor, got torch.float32 tensor'),
        ([[0], [1]], r'labels must have the shape \(2,\), got \(2, 1\)'),
    ],
)
def test_labels_that_are_no_things_are_refused(labels, message):
    instances, logits, image = tie_on_person()
    instances.labels = torch.tensor(labels)
    with pytest.raises((TypeError, ValueError), match=message):
        make_head().predict([instances], [logits], [image])


def test_semantic_predictions_that_are_no_numbers_are_refused():
    instances, logits, image = tie_on_person()
    for prediction in (logits.numpy(), logits > 0, None):
        with pytest.raises(TypeError, match='semantic prediction must be a tensor of numbers'):
            make_head().predict([instances], [prediction], [image])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_boxes_and_scores_of_any_precision(dtype):
    instances, logits, image = tie_on_person()
    head = make_head(nms=dict(type='nms', iou_threshold=0.5))
    (expected,) = head.predict([instances], [logits], [image])
    instances.bboxes, instances.scores = instances.bboxes.to(dtype), instances.scores.to(dtype)
    (result,) = head.predict([instances], [logits], [image])
    assert torch.equal(result.sem_seg, expected.sem_seg)


def test_bad_inputs_are_refused():
    instances, logits, image = tie_on_person()
    head = make_head()
    with pytest.raises(ValueError, match='images must be given'):
        head.predict([instances], [logits])
    with pytest.raises(ValueError, match=r'same length, got \(1, 1, 2\)'):
        head.predict([instances], [logits], [image, image])
    with pytest.raises(ValueError, match=r'resolution of the masks \(3, 4\), got \(3, 2\)'):
        head.predict([instances], [logits.argmax(dim=0)[:, :2]], [image])
    with pytest.raises(ValueError, match=r'4 \(stuff_and_things\) or 7 \(all\) channels'):
        head.predict([instances], [logits[:5]], [image])
    with pytest.raises(ValueError, match=r'image must have the shape \(3, 3, 4\)'):
        head.predict([instances], [logits], [image[..., :2]])
    with pytest.raises(ValueError, match=r'got \(3, 4, 3\); permute\(2, 0, 1\) it'):
        head.predict([instances], [logits], [image.permute(1, 2, 0)])
    with pytest.raises(ValueError, match='a normalised image must be de-normalised first'):
        head.predict([instances], [logits], [image - 120])
    broken = instances.clone()
    broken.scores[1] = torch.nan
    with pytest.raises(ValueError, match='scores must not be NaN, got 1 NaN'):
        head.predict([broken], [logits], [image])
    with pytest.raises(ValueError, match='test_cfg must be given'):
        OcclusionAwareFusionHead().predict([instances], [logits], [image])
    masks = instances.masks
    instances.masks = masks.float()
    with pytest.raises(TypeError, match='masks must be a bool tensor'):
        head.predict([instances], [logits], [image])
    instances.masks = masks
    instances.scores = instances.scores.numpy()
    with pytest.raises(TypeError, match='scores must be a floating-point tensor, got ndarray'):
        head.predict([instances], [logits], [image])
    del instances.scores
    with pytest.raises(ValueError, match='missing: scores'):
        head.predict([instances], [logits], [image])
