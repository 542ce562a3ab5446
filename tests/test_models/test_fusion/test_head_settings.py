"""The thresholds of the fusion head's ``test_cfg`` reach what they are for."""

import pytest
import torch
from mmengine.structures import InstanceData

from mmbanet.models.fusion import OcclusionAwareFusionHead, resolve_by_score, resolve_occlusion

from .scenes import crowded_scene, to_tensors

THINGS, STUFF = 2, 1
RED = torch.tensor([200.0, 20.0, 20.0])
MEAN_COLOR, SMALLER = dict(type='mmbanet.MeanColor'), dict(type='mmbanet.SmallerInFront')


def owners_by_head(masks, scores, image, order=MEAN_COLOR, **settings):
    """(H, W) the detection that owns each pixel, -1 for none."""
    cfg = dict(score_thr=-1.0, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=0)
    head = OcclusionAwareFusionHead(THINGS, STUFF, order, test_cfg={**cfg, **settings})
    count = len(masks)
    instances = InstanceData(
        bboxes=torch.zeros(count, 4),
        labels=torch.zeros(count, dtype=torch.long),
        scores=scores,
        masks=masks,
    )
    semantics = torch.full(masks.shape[1:], THINGS)
    images = [image] if head.needs_images else None
    (result,) = head.predict([instances], [semantics], images)
    detection = torch.full((len(result.segments_info) + 1,), -1)
    for segment in result.segments_info:
        detection[segment['id']] = segment.get('detection', -1)
    return detection[result.segment_ids[0]]


def grey_and_red():
    """A row: grey on pixels 0..5, red on 4..8, of a lower score; both claim 4 and 5, 40% of red."""
    masks = torch.zeros(2, 1, 9, dtype=torch.bool)
    masks[0, 0, :6] = True
    masks[1, 0, 4:] = True
    image = torch.full((3, 1, 9), 90.0)
    image[:, 0, 4:] = RED[:, None]
    return masks, torch.tensor([0.9, 0.8]), image


@pytest.mark.parametrize('order', [MEAN_COLOR, SMALLER])
@pytest.mark.parametrize(
    ('occlusion_thr', 'winner'), [(0.0, 1), (0.2, 1), (0.39, 1), (0.4, 0), (0.6, 0), (1.0, 0)]
)
def test_occlusion_thr(order, occlusion_thr, winner):
    owner = owners_by_head(*grey_and_red(), order, occlusion_thr=occlusion_thr)
    assert owner.tolist() == [[0] * 4 + [winner] * 2 + [1] * 3]


@pytest.mark.parametrize('order', [MEAN_COLOR, SMALLER, None])
@pytest.mark.parametrize(
    ('removal_thr', 'rest'), [(0.0, -1), (0.2, -1), (0.39, -1), (0.4, 1), (0.6, 1)]
)
def test_removal_thr(order, removal_thr, rest):
    # The score decides, and red loses two of its five pixels.
    owner = owners_by_head(*grey_and_red(), order, occlusion_thr=1.0, removal_thr=removal_thr)
    assert owner.tolist() == [[0] * 6 + [rest] * 3]


def test_a_large_removal_thr_keeps_what_lost_most():
    masks, scores, image = grey_and_red()
    masks[0, 0, 6:8] = True  # four of red's five
    for order in (MEAN_COLOR, SMALLER, None):
        inputs = masks, scores, image, order
        assert owners_by_head(*inputs, occlusion_thr=1.0, removal_thr=0.79)[0, 8] == -1
        assert owners_by_head(*inputs, occlusion_thr=1.0, removal_thr=0.8)[0, 8] == 1


@pytest.mark.parametrize('occlusion_thr', [0.0, 0.2, 0.7])
@pytest.mark.parametrize('removal_thr', [0.1, 0.5, 0.9])
def test_the_head_and_the_functions_agree_on_any_thresholds(occlusion_thr, removal_thr):
    thresholds = dict(occlusion_thr=occlusion_thr, removal_thr=removal_thr)
    for seed in range(7000, 7008):
        scene = to_tensors(crowded_scene(seed))
        scene['scores'] = torch.linspace(0.9, 0.5, len(scene['masks']))
        owner, _ = resolve_occlusion(**scene, **thresholds)
        assert torch.equal(owners_by_head(**scene, **thresholds), owner), seed
        masks, scores = scene['masks'], scene['scores']
        owner, _ = resolve_by_score(masks, scores, removal_thr)
        found = owners_by_head(**scene, **thresholds, order=None)
        assert torch.equal(found, owner), seed
