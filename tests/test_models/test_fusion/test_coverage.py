"""What masks cover of cells, against masks that are enlarged until cells are made of pixels."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import InstanceData

from mmbanet.models.fusion.coverage import coverage, crops_of_logits, crops_of_masks

LIKE = torch.empty(0)
SIZES = [((6, 8), (3, 4)), ((5, 7), (2, 3)), ((1, 1), (1, 1)), ((3, 4), (6, 9)), ((9, 1), (4, 1))]


def reference(masks, cells):
    """Each pixel as often as there are cells on its axis, each cell as wide as there are pixels."""
    size = masks.shape[1:]
    large = masks.float().repeat_interleave(cells[0], 1).repeat_interleave(cells[1], 2)
    return F.avg_pool2d(large, tuple(size))


def whole(crops, count, size, dtype=torch.float32):
    """Maps of crops."""
    maps = torch.zeros(count, *size, dtype=dtype)
    for item, (window, inside) in zip(maps, crops, strict=True):
        item[window] = inside
    return maps


@pytest.mark.parametrize(('size', 'cells'), SIZES)
@pytest.mark.parametrize('count', [0, 1, 5])
def test_shares_of_cells(size, cells, count):
    masks = torch.rand(count, *size) > 0.5
    masks[1:2] = False
    found = whole(coverage(crops_of_masks(masks), size, cells, LIKE), count, cells)
    expected = reference(masks, cells) if count else torch.zeros(0, *cells)
    torch.testing.assert_close(found, expected)


def test_mixed_precision_does_not_lower_them():
    masks = torch.rand(4, 37, 53) > 0.5
    given = masks.shape[1:], (9, 13), LIKE
    expected = coverage(crops_of_masks(masks), *given)
    with torch.autocast('cpu', torch.bfloat16):
        found = coverage(crops_of_masks(masks), *given)
    assert torch.equal(whole(found, 4, (9, 13)), whole(expected, 4, (9, 13)))


def test_crops_have_all_of_a_mask():
    masks = torch.rand(20, 6, 7) > 0.9
    masks[0] = False
    assert torch.equal(whole(crops_of_masks(masks), 20, (6, 7), torch.bool), masks)
    for mask, (_, inside) in zip(masks, crops_of_masks(masks)):
        assert inside.any(0).sum() > 0 or (not mask.any() and inside.numel() == 0)


def test_predicted_masks_by_hand():
    """Probabilities 0.1 and 0.9 on the halves of a box of four columns cross 0.5 in its middle."""
    logits = torch.tensor([[[-2.1972, 2.1972]], [[1.0, 1.0]], [[-1.0, -1.0]], [[1.0, 1.0]]])
    boxes = torch.tensor([[1.0, 0, 5, 2], [-3, 1, 2, 9], [0, 0, 6, 2], [3, 3, 3, 3]])
    crops = crops_of_logits(InstanceData(bboxes=boxes, mask_logits=logits), (2, 6))
    assert whole(crops, 4, (2, 6), torch.int64).tolist() == [
        [[0, 0, 0, 1, 1, 0]] * 2,
        [[0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]],
        [[0] * 6] * 2,
        [[0] * 6] * 2,
    ]


def test_predicted_masks_are_those_of_detections():
    """Inside of the boxes, where mmdet mixes in no zeros from outside."""
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    logits = F.interpolate(torch.randn(6, 1, 4, 4), size=(28, 28), mode='bilinear')[:, 0] * 5
    corner = torch.rand(6, 2) * 20
    boxes = torch.cat([corner, corner + 8 + torch.rand(6, 2) * 30], dim=1)
    pasted, _ = _do_paste_mask(logits.sigmoid()[:, None], boxes, 60, 60, skip_empty=False)
    crops = crops_of_logits(InstanceData(bboxes=boxes, mask_logits=logits), (60, 60))
    for whole, ((rows, columns), inside) in zip(pasted, crops, strict=True):
        theirs = whole[rows, columns][2:-2, 2:-2] - 0.5
        sure = theirs.abs() > 1e-4
        assert sure.float().mean() > 0.9
        assert torch.equal((theirs > 0)[sure], inside[2:-2, 2:-2][sure])
