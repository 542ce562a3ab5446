"""The fusion head with known orders of pairs."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmbanet.models.fusion import OcclusionAwareFusionHead, resolve_occlusion

from .scenes import random_scene

THINGS, STUFF = 4, 3
MEAN_COLOR, SMALLER = dict(type='mmbanet.MeanColor'), dict(type='mmbanet.SmallerInFront')


def make_head(order=MEAN_COLOR, score_thr=0.0):
    settings = dict(
        score_thr=score_thr, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=0
    )
    return OcclusionAwareFusionHead(THINGS, STUFF, order, test_cfg=settings)


def random_inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    scene = random_scene(seed, max_objects=10)
    masks, image = torch.from_numpy(scene['masks']), torch.from_numpy(scene['image'])
    count = len(masks)
    instances = InstanceData(
        bboxes=torch.zeros(count, 4),
        labels=torch.zeros(count, dtype=torch.long),
        scores=(torch.randperm(count, generator=generator) + 1) / 16,
        masks=masks,
    )
    upper = torch.randint(-1, 2, (count, count), generator=generator).triu(diagonal=1)
    preference = (upper - upper.T).to(torch.int8)
    return instances, torch.zeros(masks.shape[1:], dtype=torch.int64), image, preference


def test_preferences_follow_the_detections_that_are_chosen():
    """Given for all, in their order; the head drops those of low score and sorts the rest."""
    differ = 0
    for seed in range(60):
        instances, semantics, image, preference = random_inputs(seed)
        inputs = [instances], [semantics], [image]
        (result,) = make_head(score_thr=0.2).predict(*inputs, preferences=[preference])
        kept = instances[instances.scores > 0.2]
        chosen = (instances.scores > 0.2).nonzero()[:, 0]
        owner, _ = resolve_occlusion(
            kept.masks, kept.scores, image, preference=preference[chosen][:, chosen]
        )
        owner = torch.where(owner < 0, -1, torch.cat([chosen, chosen.new_tensor([-1])])[owner])

        detection = torch.full((int(result.segment_ids.max()) + 1,), -1)
        for segment in result.segments_info:
            detection[segment['id']] = segment.get('detection', -1)
        assert torch.equal(detection[result.segment_ids[0]], owner)
        (plain,) = make_head(score_thr=0.2).predict(*inputs)
        differ += not torch.equal(plain.segment_ids, result.segment_ids)
    assert differ > 10  # preferences matter in these scenes


def test_images_with_nothing_known_are_as_without_preferences():
    instances, semantics, image, preference = random_inputs(7)
    inputs = [instances], [semantics], [image]
    (plain,) = make_head().predict(*inputs)
    (result,) = make_head().predict(*inputs, preferences=[torch.zeros_like(preference)])
    assert torch.equal(result.segment_ids, plain.segment_ids)
    assert result.segments_info == plain.segments_info


@pytest.mark.parametrize(
    ('order', 'preferences', 'message'),
    [
        (None, lambda p: [p], 'preferences must be None with order=None'),
        (SMALLER, lambda p: [p, p], 'preferences must have the length of images, 1, got 2'),
        (SMALLER, lambda p: [p[1:, 1:]], 'preference must have the shape'),
        (SMALLER, lambda p: [p.abs()], 'preference must be antisymmetric'),
    ],
)
def test_preferences_that_cannot_be(order, preferences, message):
    instances, semantics, image, preference = random_inputs(7)
    assert preference.any()
    head = make_head(order)
    with pytest.raises(ValueError, match=message):
        head.predict([instances], [semantics], [image], preferences=preferences(preference))
