import pytest
import torch
from mmengine.structures import InstanceData

from mmbanet.models.fusion import select_detections

from ...conftest import DEVICES

NMS = dict(type='nms', iou_threshold=0.5)


def detections(scores, boxes, device='cpu'):
    count = len(scores)
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.arange(count),
        masks=torch.rand(count, 3, 4) > 0.5,
    ).to(device)


BOXES = [[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 9], [0, 0, 10, 5], [20, 0, 30, 10]]


@pytest.mark.parametrize('device', DEVICES)
def test_threshold_nms_and_order(device):
    # 2 is a duplicate of 0 with another label, 3 overlaps 0 by exactly one half, 4 scores too low.
    given = detections([0.75, 0.8, 0.7, 0.9, 0.5], BOXES, device)
    before = given.clone()
    selected = select_detections(given, 0.5, NMS)
    assert selected.tolist() == [3, 1, 0]
    assert selected.dtype == torch.int64
    assert selected.device.type == 'cpu'
    assert all(torch.equal(before[name], given[name]) for name in given.keys())  # noqa: SIM118


def test_without_nms_and_equal_scores_keep_their_order():
    given = detections([0.7, 0.8, 0.7, 0.7, 0.8], BOXES)
    assert select_detections(given, 0.0, None).tolist() == [1, 4, 0, 2, 3]


def test_the_threshold_itself_is_not_enough():
    given = detections([0.5, 0.75], BOXES[:2])
    assert select_detections(given, 0.5, NMS).tolist() == [1]


def test_is_idempotent():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        corners = torch.rand(30, 2, 2, generator=generator).mul(40).sort(dim=1).values
        given = detections([0.0] * 30, corners.flatten(1).tolist())
        given.scores = torch.rand(30, generator=generator)
        once = given[select_detections(given, 0.3, NMS)]
        assert 0 < len(once) < 30
        assert select_detections(once, 0.3, NMS).tolist() == list(range(len(once)))


@pytest.mark.parametrize('nms', [NMS, None])
def test_nothing_to_select(nms):
    assert len(select_detections(detections([], []), 0.5, nms)) == 0
    assert len(select_detections(detections([0.1, 0.2], BOXES[:2]), 0.5, nms)) == 0


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match='scores must not be NaN, got 1'):
        select_detections(detections([0.9, float('nan')], BOXES[:2]), 0.5, NMS)


@pytest.mark.parametrize(('field', 'place'), [('scores', 1), ('bboxes', (1, 2))])
def test_nan_has_no_place_in_an_order(field, place):
    given = detections([0.7, 0.8], BOXES[:2])
    given[field][place] = float('nan')
    with pytest.raises(ValueError, match=f'{field} must not be NaN, got 1 NaN values'):
        select_detections(given, 0.0, NMS)
