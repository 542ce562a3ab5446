import pytest
import torch
import torch.nn.functional as F

from mmbanet.models import SemanticFeatureHead
from mmbanet.models.semantic.logits import roi_semantic_loss

from ...conftest import make_sample


def make_head(**kwargs) -> SemanticFeatureHead:
    kwargs = dict(in_channels=8, feat_channels=(16, 8, 4), norm_cfg=None) | kwargs
    head = SemanticFeatureHead(num_things_classes=8, num_stuff_classes=5, **kwargs)
    head.init_weights()
    return head


def make_pyramid(height: int = 16, width: int = 24) -> list[torch.Tensor]:
    return [torch.randn(2, 8, height >> i, width >> i) for i in range(5)]


def test_features_are_one_subnet_on_every_level_upsampled_and_concatenated():
    head = make_head()
    x = make_pyramid()
    out = head(x)

    expected = []
    for level in x[:4]:
        for conv in head.subnet:
            level = F.relu(F.conv2d(level, conv.conv.weight, conv.conv.bias, padding=1))
        expected.append(F.interpolate(level, size=(16, 24), mode='bilinear', align_corners=False))
    expected = torch.cat(expected, dim=1)
    torch.testing.assert_close(out['seg_feats'], expected)
    weight = head.conv_logits.weight[:, :, 0, 0]
    logits = torch.einsum('nchw,kc->nkhw', expected, weight) + head.conv_logits.bias[:, None, None]
    torch.testing.assert_close(out['seg_preds'], logits, rtol=1e-4, atol=1e-6)

    (alone,) = head(x, with_logits=False).values()
    assert torch.equal(alone, out['seg_feats'])


def test_paper_width_is_512_channels_and_133_classes():
    head = SemanticFeatureHead()
    assert [conv.conv.out_channels for conv in head.subnet] == [256, 128, 128]
    assert head.conv_logits.in_channels == 512
    assert head.conv_logits.out_channels == 133


@pytest.mark.parametrize('avg_non_ignore', [True, False])
def test_loss_is_cross_entropy_at_stride_4_without_void(avg_non_ignore):
    loss = dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5)
    head = make_head(loss_seg=dict(loss, avg_non_ignore=avg_non_ignore))
    samples = [make_sample(64, 96, seed=i) for i in range(2)]
    samples[0].gt_sem_seg.sem_seg[:, :, :40] = 255
    x = make_pyramid()
    loss = head.loss(x, samples)['loss_seg']

    logits = head(x)['seg_preds']
    total = 0.0
    for n, sample in enumerate(samples):
        labels = sample.gt_sem_seg.sem_seg[0, 2::4, 2::4].long()
        log_probability = logits[n].log_softmax(0)
        for row in range(16):
            for column in range(24):
                if labels[row, column] != 255:
                    total -= log_probability[labels[row, column], row, column]
    # The left 40 columns of 96 of one of two images are void; mmdet's default counts them.
    torch.testing.assert_close(
        loss, 0.5 * total / (16 * 24 + 16 * 14 if avg_non_ignore else 2 * 16 * 24)
    )


def test_loss_inside_boxes_has_a_weight_of_its_own():
    samples = [make_sample(64, 96, seed=i) for i in range(2)]
    head, x = make_head(roi_loss_weight=0.3), make_pyramid()
    losses = head.loss(x, samples)
    inside = roi_semantic_loss(head.loss_seg, head(x)['seg_preds'], samples)
    torch.testing.assert_close(losses['loss_roi'], 0.3 * inside)
    assert set(make_head().loss(x, samples)) == {'loss_seg'}


def test_deformable_variant_has_only_deformable_convs():
    head = make_head(
        conv_cfg=dict(type='mmbanet.DeformConv2dPack', deform_groups=1),
        norm_cfg=dict(type='GN', num_groups=4),
    )
    assert [type(conv.conv).__name__ for conv in head.subnet] == ['DeformConv2dPack'] * 3
    head.loss(make_pyramid(32, 32), [make_sample(128, 128, seed=i) for i in range(2)])[
        'loss_seg'
    ].backward()
    assert all(conv.conv.conv_offset.weight.grad is not None for conv in head.subnet)


@pytest.mark.parametrize('conv_cfg', [None, dict(type='mmbanet.DeformConv2dPack', deform_groups=1)])
def test_without_normalisation_convs_have_a_bias_and_a_relu(conv_cfg):
    head = make_head(conv_cfg=conv_cfg, norm_cfg=None)
    assert not any(isinstance(module, torch.nn.GroupNorm) for module in head.modules())
    for conv in head.subnet:
        assert not conv.conv.bias.any()
        torch.nn.init.normal_(conv.conv.bias)
    x = make_pyramid(32, 32)
    feats = head(x)['seg_feats']
    assert (feats[:, :4] >= 0).all()
    assert (feats[:, :4] == 0).any()
    head.loss(x, [make_sample(128, 128, seed=i) for i in range(2)])['loss_seg'].backward()
    assert all(conv.conv.bias.grad.any() for conv in head.subnet)


def test_too_few_levels():
    with pytest.raises(ValueError, match='at least 4 pyramid levels, got 2'):
        make_head()(make_pyramid()[:2])
