import pytest
import torch
import torch.nn.functional as F
from mmdet.models.losses import CrossEntropyLoss
from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.models.seg_heads.panoptic_fusion_heads import HeuristicFusionHead
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from torch import nn

from mmbanet.models import I2SHead, SemanticFeatureHead
from mmbanet.models.semantic.logits import (
    label_maps,
    layout_of,
    merge_things,
    resize_logits,
    roi_semantic_loss,
    semantic_labels,
    semantic_loss,
)

from ...conftest import DEVICES

# Two things (0, 1) and three stuff classes (2, 3, 4); void is 5.
VOID = 5


def one_hot(labels, channels):
    return F.one_hot(torch.tensor(labels), channels).permute(2, 0, 1).float()


def labels_of(prediction, layout=None, size=None):
    size = prediction.shape[-2:] if size is None else size
    return semantic_labels(prediction, size, 2, 3, layout).tolist()


def with_targets(labels):
    return [DetDataSample(gt_sem_seg=PixelData(sem_seg=item[None])) for item in labels]


def test_layout_is_a_property_of_the_head():
    assert layout_of(SemanticFeatureHead()) == layout_of(I2SHead()) == 'all'
    assert layout_of(PanopticFPNHead()) == layout_of(HeuristicFusionHead()) == 'stuff_and_things'
    own = nn.Module()
    own.semantic_layout = 'stuff_and_things'
    assert layout_of(own) == 'stuff_and_things'
    of_all = type('OfAll', (PanopticFPNHead,), dict(semantic_layout='all'))
    assert layout_of(of_all()) == 'all'
    with pytest.raises(TypeError, match=r'Linear must say .* attribute semantic_layout.* got None'):
        layout_of(nn.Linear(1, 1))
    own.semantic_layout = 'stuff'
    with pytest.raises(TypeError, match=r"one of \('all', 'stuff_and_things'\); got 'stuff'"):
        layout_of(own)


def test_what_the_loss_asks_for_is_where_the_labels_are():
    rows, cols = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing='ij')
    disc = (rows - 60.5) ** 2 + (cols - 90.5) ** 2 < 40**2
    logits = torch.zeros(1, 2, 32, 48, requires_grad=True)
    semantic_loss(CrossEntropyLoss(), logits, with_targets([disc.long()])).backward()

    shape = dict(batch_input_shape=(128, 192), img_shape=(128, 192), ori_shape=(128, 192))
    wanted = label_maps(-logits.grad, [shape], True, 0, 'all')[0][0] == 1
    shift = wanted.nonzero().float().mean(0) - disc.nonzero().float().mean(0)
    # Of four pixels none is in the middle: half a pixel remains.
    assert shift.abs().max() < 0.6, shift


@pytest.mark.parametrize('head', [SemanticFeatureHead, I2SHead])
def test_void_and_padding_do_not_count_in_the_loss_of_a_head(head):
    loss = next(iter(child for name, child in head().named_children() if name.startswith('loss')))
    logits = torch.randn(1, 5, 8, 12)
    labels = torch.randint(0, 5, (1, 8, 12))
    alone = semantic_loss(loss, logits, with_targets(labels))
    padded = semantic_loss(
        loss,
        F.pad(logits, (0, 20, 0, 4)),
        with_targets(F.pad(labels, (0, 20, 0, 4), value=255)),
    )
    torch.testing.assert_close(padded, alone)
    torch.testing.assert_close(alone, loss.loss_weight * F.cross_entropy(logits, labels))


@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_loss_of_an_image_that_is_all_void(avg_non_ignore):
    logits = torch.randn(1, 5, 8, 12, requires_grad=True)
    loss = CrossEntropyLoss(ignore_index=255, avg_non_ignore=avg_non_ignore)
    value = semantic_loss(loss, logits, with_targets(torch.full((1, 32, 48), 255)))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


def test_resized_logits_are_cut_before_they_are_scaled():
    logits = torch.zeros(2, 1, 16, 24)
    logits[1, :, 12:] = 100.0  # padding of the second image, from row 48 of 64 on
    metas = [
        dict(batch_input_shape=(64, 96), img_shape=(64, 96), ori_shape=(32, 48)),
        dict(batch_input_shape=(64, 96), img_shape=(46, 96), ori_shape=(92, 96)),
    ]
    first, second = resize_logits(logits, metas, rescale=True)
    assert (first.shape, second.shape) == ((1, 32, 48), (1, 92, 96))
    assert second.max() < 10  # the padding's values are beyond the cut
    first, second = resize_logits(logits, metas, rescale=False)
    assert (first.shape, second.shape) == ((1, 64, 96), (1, 46, 96))


@pytest.mark.parametrize('rescale', [True, False])
def test_label_maps_are_the_classes_of_resized_logits(rescale):
    logits = torch.randn(3, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    metas = [
        dict(batch_input_shape=(64, 96), img_shape=(64, 90), ori_shape=(40, 56)),
        dict(batch_input_shape=(64, 96), img_shape=(46, 96), ori_shape=(92, 192)),
        dict(batch_input_shape=(16, 24), img_shape=(16, 24), ori_shape=(16, 24)),
    ]
    resized = resize_logits(logits, metas, rescale)
    for things, layout, first in [(3, 'all', 0), (7, 'stuff_and_things', 7), (1, 'all', 0)]:
        found = label_maps(logits, metas, rescale, things, layout)
        for labels, expected in zip(found, resized):
            assert labels.shape == (1, *expected.shape[1:])
            chosen = expected.gather(0, labels.long() - first)[0]
            # Rounding may turn pixels at which two classes are equal; nothing else.
            torch.testing.assert_close(chosen, expected.amax(dim=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(('things', 'stuff'), [(1, 4), (3, 2), (4, 0)])
def test_merged_things_keep_the_class_of_every_pixel(things, stuff, dtype):
    """Of few values, so that logits are equal often, which the first one of them wins."""
    logits = torch.randint(3, (things + stuff, 40, 50)).to(dtype)
    merged = merge_things(logits, things)
    assert merged.shape == (stuff + 1, 40, 50)
    expected = logits.argmax(0)
    expected = torch.where(expected < things, things + stuff, expected)
    assert torch.equal(merged.argmax(0) + things, expected)


def test_logits_of_all_classes():
    logits = one_hot([[0, 1], [2, 4]], 5)
    assert labels_of(logits) == labels_of(logits, 'all') == [[0, 1], [2, 4]]


def test_logits_of_stuff_and_one_channel_of_things():
    logits = one_hot([[0, 1], [2, 3]], 4)
    assert labels_of(logits) == labels_of(logits, 'stuff_and_things') == [[2, 3], [4, VOID]]


def test_with_one_thing_class_the_caller_says_what_the_channels_mean():
    logits = one_hot([[0, 1, 2]], 3)

    def labels(layout):
        return semantic_labels(logits, (1, 3), 1, 2, layout).tolist()

    assert labels('all') == [[0, 1, 2]]
    assert labels('stuff_and_things') == [[1, 2, 3]]
    with pytest.raises(ValueError, match=r"semantic_layout must be one of \('all', .* got None"):
        labels(None)


def test_the_first_of_equal_logits_wins():
    assert labels_of(torch.zeros(5, 1, 2)) == [[0, 0]]
    assert labels_of(torch.zeros(4, 1, 2)) == [[2, 2]]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('size', [(37, 50), (8, 12), (5, 7), (8, 30)])
def test_logits_of_another_resolution_are_resized_to_the_masks(device, size):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 8, 12, generator=generator).to(device)
    result = semantic_labels(logits, size, 2, 3)
    resized = F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)[0]
    assert result.dtype == torch.int32
    # Rounding may turn pixels at which two classes are equal; nothing else.
    chosen = resized.gather(0, result[None].long())[0]
    torch.testing.assert_close(chosen, resized.amax(dim=0), rtol=0, atol=1e-5)


def test_labels_pass_as_they_are():
    labels = torch.tensor([[0, 4, VOID]])
    for prediction in (labels, labels[None], labels.to(torch.uint8), labels.int()):
        result = semantic_labels(prediction, (1, 3), 2, 3)
        assert result.tolist() == [[0, 4, VOID]]
        assert result.dtype == torch.int32


@pytest.mark.parametrize(
    ('channels', 'layout', 'message'),
    [
        (3, None, r'4 \(stuff_and_things\) or 5 \(all\) channels for 2 thing and 3 .*got 3'),
        (4, 'all', r'5 \(all\) channels .*got 4'),
        (5, 'stuff_and_things', r'4 \(stuff_and_things\) channels .*got 5'),
        (5, 'auto', "semantic_layout must be None or one of .*got 'auto'"),
    ],
)
def test_other_numbers_of_channels_are_refused(channels, layout, message):
    with pytest.raises(ValueError, match=message):
        labels_of(torch.zeros(channels, 1, 1), layout)


def test_other_shapes_and_labels_are_refused():
    with pytest.raises(ValueError, match=r'logits must have shape \(C, h, w\), got \(2, 2\)'):
        labels_of(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r'logits must have shape .*got \(5, 0, 2\)'):
        labels_of(torch.zeros(5, 0, 2), size=(2, 2))
    with pytest.raises(ValueError, match=r'resolution of the masks \(2, 2\), got \(2, 3\)'):
        labels_of(torch.zeros(2, 3).long(), size=(2, 2))
    with pytest.raises(ValueError, match=r'in 0\.\.5 \(5: void\), got values from 0 to 255'):
        labels_of(torch.tensor([[0, 255]]))
    with pytest.raises(TypeError, match=r'tensor of numbers, got torch\.bool'):
        labels_of(torch.ones(2, 2).bool())


def test_loss_inside_boxes_is_that_of_points_spread_over_them():
    logits, labels = torch.randn(2, 5, 8, 12), torch.randint(0, 5, (2, 32, 48))
    labels[1, 20:] = 255
    boxes = [[[4.0, 8, 20, 24], [0, 0, 48, 32], [6.3, 1.7, 7.1, 30.2]], [[10.0, 5, 47.5, 32]]]
    samples = with_targets(labels)
    found, wanted = [], []
    for i, (sample, given) in enumerate(zip(samples, boxes)):
        sample.gt_instances = InstanceData(bboxes=torch.tensor(given))
        for x1, y1, x2, y2 in given:
            for y in (y1 + (k + 0.5) / 28 * (y2 - y1) for k in range(28)):
                x = torch.tensor([x1 + (k + 0.5) / 28 * (x2 - x1) for k in range(28)])
                place = torch.stack([2 * x / 48 - 1, torch.full((28,), 2 * y / 32 - 1)], dim=1)
                found.append(
                    F.grid_sample(
                        logits[i : i + 1],
                        place[None, None],
                        padding_mode='border',
                        align_corners=False,
                    )[0, :, 0].T
                )
                wanted.append(labels[i, int(y), x.long()])
    loss = CrossEntropyLoss(ignore_index=255, avg_non_ignore=True, loss_weight=0.5)
    expected = 0.5 * F.cross_entropy(torch.cat(found), torch.cat(wanted), ignore_index=255)
    torch.testing.assert_close(roi_semantic_loss(loss, logits, samples), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_mixed_precision_rounds_nothing_of_the_loss_inside_boxes(dtype):
    logits = torch.randn(1, 5, 8, 12).to(dtype)
    (sample,) = with_targets(torch.randint(0, 5, (1, 32, 48)))
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[6.3, 1.7, 40.1, 30.2]]))
    loss = CrossEntropyLoss(avg_non_ignore=True)
    expected = roi_semantic_loss(loss, logits.float(), [sample])
    assert torch.equal(roi_semantic_loss(loss, logits, [sample]), expected)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_loss_inside_boxes_of_images_without_any(avg_non_ignore):
    logits = torch.randn(1, 5, 8, 12, requires_grad=True)
    (sample,) = with_targets(torch.zeros(1, 32, 48).long())
    sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4))
    loss = CrossEntropyLoss(avg_non_ignore=avg_non_ignore)
    loss = roi_semantic_loss(loss, logits, [sample])
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_logits_that_are_nan_have_no_labels():
    logits, meta = (
        torch.zeros(1, 3, 4, 4),
        dict.fromkeys(('batch_input_shape', 'img_shape'), (4, 4)),
    )
    logits[0, 1, 2, 3] = float('nan')
    with pytest.raises(ValueError, match='semantic logits must not be NaN, got 1 NaN values'):
        label_maps(logits, [meta], False, 0, 'all')
