import pytest
import torch
import torch.nn.functional as F

from mmbanet.models import I2SHead
from mmbanet.ops import roi_inlay, roi_upsample

from ...conftest import make_sample

OCM = dict(layout_channels=3, pool_sizes=(1, 2, 4), encoding_channels=6)


def make_head(**kwargs) -> I2SHead:
    kwargs = dict(ocm=OCM, norm_cfg=None) | kwargs
    head = I2SHead(
        num_classes=13, instance_channels=8, semantic_channels=10, width=4, out_channels=6, **kwargs
    )
    head.init_weights()
    return head


def make_inputs():
    semantic = torch.randn(2, 10, 16, 24)
    instances = torch.randn(3, 8, 7, 7)
    rois = torch.tensor(
        [[0, 5.0, 8.0, 60.0, 50.0], [0, 30.0, 2.0, 90.0, 40.0], [1, 10.0, 10.0, 50.0, 60.0]]
    )
    return semantic, instances, rois


@pytest.mark.parametrize(
    ('name', 'inlay'), [('RoIInlay', roi_inlay), ('RoIUpsample', roi_upsample)]
)
def test_equals_the_paper_order_inlay_then_project_and_concatenate(name, inlay):
    head = make_head(inlay=dict(type=f'mmbanet.{name}'))
    semantic, instances, rois = make_inputs()
    shapes = [(64, 96), (60, 70)]
    logits = head(semantic, instances, rois, shapes)

    inlaid = inlay(instances, rois, 2, (16, 24), spatial_scale=1 / 4)
    sim, ocm = head.sim, head.ocm
    projected = F.conv2d(inlaid, sim.project_instances.weight)
    structure = sim.mix(torch.cat([projected, sim.project_semantics(semantic)], dim=1))
    layout = F.conv2d(inlaid, ocm.project_instances.weight)
    pooled = []
    for image, (h, w) in zip(layout, [(16, 24), (15, 18)]):
        pooled.append(
            torch.cat([F.adaptive_max_pool2d(image[:, :h, :w], s).reshape(-1) for s in (1, 2, 4)])
        )
    encoding = F.relu(ocm.encode(torch.stack(pooled)))
    repeated = encoding[:, :, None, None].expand(-1, -1, 16, 24)
    weight = torch.cat(
        [ocm.project_structure.weight, ocm.project_encoding.weight[:, :, None, None]], dim=1
    )
    feats = F.conv2d(torch.cat([structure, repeated], dim=1), weight, ocm.project_structure.bias)
    expected = head.conv_logits(F.relu(feats))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('sizes', [(1, 2, 4, 8), (8, 3, 1), (5,)])
def test_the_grids_are_pooled_from_the_map(sizes):
    """Though some are computed from others; also where the map is smaller than a grid."""
    ocm = make_head(ocm=dict(OCM, pool_sizes=sizes)).ocm
    inlaid = torch.randn(1, 3, 37, 23, requires_grad=True)
    for height, width in ((37, 23), (19, 5), (1, 1)):
        valid = inlaid[0, :, :height, :width]
        pooled = torch.cat([F.adaptive_max_pool2d(valid, size).flatten() for size in sizes])
        encodings = [
            F.relu(ocm.encode(pooled[None])),
            ocm.layout_encoding(inlaid, [(height, width)]),
        ]
        gradients = [torch.autograd.grad(encoding.sum(), inlaid)[0] for encoding in encodings]
        torch.testing.assert_close(*encodings)
        torch.testing.assert_close(*gradients)


def test_no_gradient_that_cuda_has_only_without_deterministic_algorithms():
    """Adaptive max-pooling's is one: training with ``randomness.deterministic`` would end there."""
    left, names = [make_head()(*make_inputs(), [(64, 96)] * 2).grad_fn], set()
    while left:
        function = left.pop()
        names.add(function.name())
        left += [before for before, _ in function.next_functions if before is not None]
    assert any('Gather' in name for name in names)
    assert not [name for name in names if 'MaxPool' in name]


def test_padding_does_not_change_the_layout_encoding():
    head = make_head()
    inlaid = torch.randn(1, 3, 16, 24)
    padded = F.pad(inlaid, (0, 8, 0, 4), value=100.0)
    valid = [(16, 24)]
    torch.testing.assert_close(
        head.ocm.layout_encoding(inlaid, valid), head.ocm.layout_encoding(padded, valid)
    )


def test_without_ocm_only_sim_is_left():
    head = make_head(ocm=None)
    assert not any(name.startswith('ocm') for name, _ in head.named_parameters())
    semantic, instances, rois = make_inputs()
    assert head(semantic, instances, rois, [(64, 96)] * 2).shape == (2, 13, 16, 24)


@pytest.mark.parametrize('ocm', [OCM, None])
def test_no_boxes_at_all_still_reaches_every_parameter(ocm):
    head = make_head(ocm=ocm)
    instances = torch.zeros(0, 8, 7, 7, requires_grad=True)
    samples = [make_sample(seed=i) for i in range(2)]
    loss = head.loss(torch.randn(2, 10, 16, 24), instances, torch.zeros(0, 5), samples)
    loss['loss_i2s'].backward()
    missing = [name for name, p in head.named_parameters() if p.grad is None]
    assert missing == []
    assert torch.isfinite(loss['loss_i2s'])


def test_real_width_inlays_138_channels():
    head = I2SHead()
    channels = head.sim.project_instances.out_channels + head.ocm.project_instances.out_channels
    assert channels == 138
    assert head.ocm.encode.in_features == 10 * (1 + 4 + 16 + 64)
