import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

import mmbanet.ops
from mmbanet.models import S2IRoIExtractor

ROI_LAYER = dict(type='RoIAlign', output_size=7, sampling_ratio=0)
STRIDES = [4, 8, 16, 32]


def make_extractor(roi_layer: dict = ROI_LAYER) -> S2IRoIExtractor:
    extractor = S2IRoIExtractor(
        roi_layer=roi_layer, out_channels=8, featmap_strides=STRIDES, semantic_channels=12
    )
    extractor.init_weights()
    return extractor


def make_inputs(size: int = 64) -> list[torch.Tensor]:
    pyramid = [torch.randn(2, 8, size >> i, size >> i) for i in range(5)]
    return [*pyramid, torch.randn(2, 12, size, size)]


def make_rois(count: int, size: int = 256) -> torch.Tensor:
    corners = torch.rand(count, 2, 2) * size * 1.2 - 0.1 * size  # partly outside the map
    index = torch.randint(0, 2, (count, 1)).float()
    return torch.cat([index, corners.min(1).values, corners.max(1).values], dim=1)


# 5 RoIs are projected after the crop, 400 (19,600 positions against 8,192) before it.
@pytest.mark.parametrize('layer', ['RoIAlign', 'mmbanet.RoIAlign'])
@pytest.mark.parametrize(('count', 'factor'), [(5, None), (400, None), (5, 1.3)])
def test_equation_1(count, factor, layer):
    extractor = make_extractor(dict(ROI_LAYER, type=layer))
    own = [isinstance(part, mmbanet.ops.RoIAlign) for part in extractor.roi_layers]
    assert own == [layer == 'mmbanet.RoIAlign'] * 4
    feats, rois = make_inputs(), make_rois(count)

    plain = SingleRoIExtractor(roi_layer=ROI_LAYER, out_channels=8, featmap_strides=STRIDES)
    enlarged = rois if factor is None else plain.roi_rescale(rois, factor)
    crop = RoIAlign(7, 1 / 4, 0)(feats[-1], enlarged)
    phi = torch.einsum('kchw,oc->kohw', crop, extractor.phi.weight[:, :, 0, 0])
    expected = phi + plain(feats[:4], rois, factor)
    torch.testing.assert_close(extractor(feats, rois, factor), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('count', [5, 400])
def test_autocast_makes_the_pyramid_half_and_leaves_f_s_float32(count):
    # GroupNorm runs in float32 under autocast, and F_S comes out of one.
    extractor = make_extractor()
    feats, rois = make_inputs(), make_rois(count).half().float()  # RoIs without rounding
    expected = extractor(feats, rois)
    half = [*(level.half() for level in feats[:-1]), feats[-1]]
    with torch.autocast('cpu', dtype=torch.float16):
        got = extractor(half, rois)
    # mmcv computes the coordinates in half as well, which moves single samples a little.
    assert (got.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


@pytest.mark.parametrize('layer', ['RoIAlign', 'mmbanet.RoIAlign'])
@pytest.mark.parametrize('count', [5, 1000])
def test_bfloat16_moves_no_rois(count, layer):
    extractor = make_extractor(dict(ROI_LAYER, type=layer))
    feats, rois = [feat.bfloat16() for feat in make_inputs(160)], make_rois(count, 100)
    rois[:, 1:] += 520
    expected = extractor([feat.float() for feat in feats], rois)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = extractor(feats, rois)
    assert got.dtype == torch.bfloat16
    assert (got.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_levels_of_half_precision_rois_do_not_overflow():
    rois = torch.tensor([[0.0, 0.0, 0.0, 400.0, 400.0], [0.0, 0.0, 0.0, 600.0, 600.0]])
    assert make_extractor().map_roi_levels(rois.half(), 4).tolist() == [2, 3]


def test_takes_the_whole_tuple_of_the_detector():
    extractor = make_extractor()
    inputs = make_inputs()
    assert inputs[: extractor.num_inputs] == inputs


def test_no_rois_keeps_every_parameter_in_the_graph():
    extractor = make_extractor()
    feats = [feat.requires_grad_() for feat in make_inputs()]
    out = extractor(feats, torch.zeros(0, 5))
    assert out.shape == (0, 8, 7, 7)
    out.sum().backward()
    assert extractor.phi.weight.grad is not None
    assert feats[-1].grad is not None


def test_missing_semantic_features():
    with pytest.raises(ValueError, match='semantic features of 12 channels'):
        make_extractor()(make_inputs()[:-1], make_rois(2))
