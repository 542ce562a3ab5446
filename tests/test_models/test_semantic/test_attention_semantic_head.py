"""AUNet's semantic head against loops over pixels and numbers worked by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from mmdet.models.seg_heads import PanopticFPNHead

from mmbanet.models import AttentionSemanticHead
from mmbanet.models.semantic.background_attention import BackgroundAttention

from ...conftest import DEVICES, make_sample
from ...test_ops import reference

COUNTS = dict(num_things_classes=8, num_stuff_classes=5)
ROIS = torch.tensor([[0, 4.0, 8, 44, 40], [0, 20, 12, 70, 50], [1, 0, 0, 96, 64]])


def make_head(**kwargs) -> AttentionSemanticHead:
    settings = dict(
        COUNTS,
        in_channels=8,
        inner_channels=16,
        norm_cfg=dict(type='GN', num_groups=4),
        pam=dict(foreground_channels=6, se_ratio=4),
        mam=dict(source='scores', se_ratio=4),
    )
    head = AttentionSemanticHead(**settings | kwargs)
    head.init_weights()
    return head


def make_inputs(height: int = 16, width: int = 24, rois: torch.Tensor = ROIS) -> dict:
    sizes = [(math.ceil(height / 2**i), math.ceil(width / 2**i)) for i in range(5)]
    return dict(
        x=[torch.randn(2, 8, *size) for size in sizes],
        rpn_features=[torch.randn(2, 6, *size).relu() for size in sizes],
        masks=3 * torch.randn(len(rois), 1, 7, 7),
        rois=rois,
    )


def attention_by_loops(module: BackgroundAttention, semantic, foreground) -> torch.Tensor:
    """S' pixel by pixel, in plain numbers."""

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    weight, bias = (p.detach().double().numpy() for p in (module.conv.weight, module.conv.bias))
    gates = [
        [
            p.detach().double().numpy()[..., 0, 0]
            for p in (layer.conv.weight, layer.conv.bias[..., None, None])
        ]
        for layer in (module.select.conv1, module.select.conv2)
    ]
    semantic, foreground = (x.detach().double().numpy() for x in (semantic, foreground))
    count, channels, height, width = semantic.shape
    radius = weight.shape[-1] // 2
    result = np.zeros_like(semantic)
    for n, y, x in itertools.product(range(count), range(height), range(width)):
        for c in range(channels):
            k = c if len(weight) > 1 else 0
            total = bias[k]
            for dy, dx in itertools.product(range(-radius, radius + 1), repeat=2):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    window = weight[k, :, dy + radius, dx + radius]
                    total += sum(window * foreground[n, :, y + dy, x + dx])
            result[n, c, y, x] = semantic[n, c, y, x] * (1 - sigmoid(total)) + semantic[n, c, y, x]
    for n in range(count):
        means = result[n].reshape(channels, -1).mean(1)
        hidden = [max(sum(row * means) + b, 0) for row, b in zip(*gates[0])]
        for c, (row, b) in enumerate(zip(*gates[1])):
            result[n, c] *= sigmoid(sum(row * hidden) + b)
    return torch.from_numpy(result)


def constant(module: BackgroundAttention, attention: float, gate: float) -> BackgroundAttention:
    """A and the gate the same everywhere, whatever comes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.conv.bias.fill_(math.log((1 - attention) / attention))
        module.select.conv2.conv.bias.fill_(math.log(gate / (1 - gate)))
    return module


@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('kernel_size', [1, 3, 5])
@pytest.mark.parametrize('size', [(1, 1), (3, 4)])
def test_attention_is_that_of_loops(per_channel, kernel_size, size):
    settings = dict(kernel_size=kernel_size, per_channel=per_channel, se_ratio=2)
    module = BackgroundAttention(foreground_channels=3, channels=4, **settings)
    semantic, foreground = torch.randn(2, 4, *size), torch.randn(2, 3, *size)
    expected = attention_by_loops(module, semantic, foreground)
    torch.testing.assert_close(
        module(semantic, foreground).double(), expected, rtol=1e-5, atol=1e-6
    )


def test_attention_by_hand():
    module = constant(BackgroundAttention(foreground_channels=1, channels=2, se_ratio=1), 0.25, 0.5)
    semantic = torch.tensor([[[[2.0, -4.0]], [[0.0, 8.0]]]])
    foreground = torch.tensor([[[[0.0, 1.0]]]])
    # S (1 + A) gate = S * 1.25 * 0.5
    expected = torch.tensor([[[[1.25, -2.5]], [[0.0, 5.0]]]])
    torch.testing.assert_close(module(semantic, foreground), expected)

    # A certain foreground leaves S, a certain background doubles it: gate 0.5.
    with torch.no_grad():
        module.conv.weight[0, 0, 1, 1] = 200
        module.conv.bias.fill_(-100)
    expected = torch.tensor([[[[2.0, -2.0]], [[0.0, 4.0]]]])
    torch.testing.assert_close(module(semantic, foreground), expected)

    # A gate of one channel's mean: A = 0.5; means of S' (-1.5, 6); gates 1/2, 3/4.
    module = constant(module, 0.5, 0.5)
    with torch.no_grad():
        module.select.conv1.conv.weight[0, 1] = 1
        module.select.conv2.conv.weight[1, 0] = math.log(3) / 6
    expected = torch.tensor([[[[1.5, -3.0]], [[0.0, 9.0]]]])
    torch.testing.assert_close(module(semantic, foreground), expected)


def test_mask_attention_by_hand():
    """One level, one channel that counts, A = 1 - sigmoid(U - 1): what is inlaid tells where."""
    head = make_head(pam=None, num_levels=1, mam=dict(kernel_size=1, se_ratio=16))
    constant(head.mam, 0.5, 0.5)
    with torch.no_grad():
        head.mam.conv.weight.fill_(1)
        head.mam.conv.bias.fill_(-1)
    x = [torch.randn(1, 8, 4, 4)]
    plain = head.conv_upsample_layers[0](x[0])

    def check(masks, rois, factors):
        masks = torch.tensor(masks).reshape(-1, 1, 1, 1)
        out = head(x, masks=masks, rois=torch.tensor(rois).reshape(-1, 5))
        torch.testing.assert_close(out['seg_feats'], plain * factors)

    # No boxes: U = 0 and A = 1 - sigmoid(-1) everywhere.
    factors = torch.full((4, 4), 0.5 * (1 + 1 / (1 + math.exp(-1))))
    check([], [], factors)
    # One box of one cell with probability 1, its centre that of pixel (1, 2): U = 1, A = 1/2.
    box = [0.0, 8, 4, 12, 8]
    factors[1, 2] = 0.75
    check([100.0], [box], factors)
    # Two boxes there, of probabilities 1 and 0: U = 1/2, their mean, not their sum.
    factors[1, 2] = 0.5 * (1 + 1 / (1 + math.exp(-0.5)))
    check([100.0, -100.0], [box, box], factors)
    # A centre between pixels (1, 1) and (1, 2): both get the probability, as reading it back gives.
    factors[1, 1:3] = 0.75
    check([100.0], [[0.0, 6, 4, 10, 8]], factors)


@pytest.mark.parametrize('source', ['scores', 'features'])
@pytest.mark.parametrize('num_rois', [0, 1, 3])
def test_head_is_panoptic_fpn_with_both_attentions(source, num_rois):
    channels = dict(scores=1, features=5)[source]
    mam = dict(source=source, se_ratio=4)
    if source == 'features':
        mam['foreground_channels'] = channels
    head = make_head(mam=mam)
    inputs = make_inputs()
    masks, rois = torch.randn(num_rois, channels, 3, 3), ROIS[:num_rois]
    inputs.update(masks=masks, rois=rois)
    out = head(**inputs)

    plain = PanopticFPNHead(
        **COUNTS, in_channels=8, inner_channels=16, norm_cfg=dict(type='GN', num_groups=4)
    )
    missing, unexpected = plain.load_state_dict(head.state_dict(), strict=False)
    assert missing == []
    assert all(name.startswith(('pam.', 'mam.')) for name in unexpected)
    levels = [
        attention_by_loops(*level).float()
        for level in zip(head.pam, inputs['x'], inputs['rpn_features'])
    ]
    crops = (masks.sigmoid() if source == 'scores' else masks).numpy()
    settings = dict(spatial_scale=1 / 4, reduction='mean')
    inlaid = reference.roi_upsample(crops, rois.numpy(), 2, (16, 24), **settings)
    expected = attention_by_loops(
        head.mam, plain(levels)['seg_feats'], torch.from_numpy(inlaid)
    ).float()
    torch.testing.assert_close(out['seg_feats'], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out['seg_preds'], plain.conv_logits(expected), rtol=1e-4, atol=1e-5)
    if source == 'scores':
        assert inlaid.max() <= ((1 + math.sqrt(2)) / 2) ** 2


def test_without_attention_it_is_panoptic_fpn():
    head = make_head(pam=None, mam=None)
    plain = PanopticFPNHead(
        **COUNTS, in_channels=8, inner_channels=16, norm_cfg=dict(type='GN', num_groups=4)
    )
    plain.load_state_dict(head.state_dict())
    x = make_inputs()['x']
    torch.testing.assert_close(head(x)['seg_preds'], plain(x)['seg_preds'])


@pytest.mark.parametrize('size', [(1, 1), (1, 2), (7, 5)])
def test_maps_of_few_pixels_and_odd_sizes(size):
    out = make_head()(**make_inputs(*size))
    assert out['seg_feats'].shape == (2, 16, *size)
    assert out['seg_preds'].isfinite().all()


@pytest.mark.parametrize('layout', ['stuff_and_things', 'all'])
@pytest.mark.parametrize(('things', 'stuff'), [(8, 5), (1, 5), (8, 0), (1, 0)])
def test_loss_is_cross_entropy_of_the_layout(layout, things, stuff):
    head = make_head(num_things_classes=things, num_stuff_classes=stuff, semantic_layout=layout)
    channels = stuff + 1 if layout == 'stuff_and_things' else things + stuff
    logits = torch.randn(2, channels, 16, 24, requires_grad=True)
    samples = [make_sample(seed=i) for i in range(2)]
    rng = np.random.default_rng(0)
    total = []
    for n, sample in enumerate(samples):
        labels = rng.choice([*range(things + stuff), 255], (16, 24))
        sample.gt_sem_seg.sem_seg = torch.from_numpy(np.kron(labels, np.ones((4, 4))))[None]
        for y, x in itertools.product(range(16), range(24)):
            label = int(labels[y, x])
            if label == 255:
                continue
            if layout == 'stuff_and_things':
                label = stuff if label < things else label - things
            values = logits[n, :, y, x].tolist()
            total.append(math.log(sum(map(math.exp, values))) - values[label])
    loss = head.loss_by_feat(logits, samples)
    assert set(loss) == {'loss_seg'}
    assert loss['loss_seg'].item() == pytest.approx(0.3 * sum(total) / len(total), abs=1e-5)
    loss['loss_seg'].backward()
    assert logits.grad.isfinite().all()

    for sample in samples:
        sample.gt_sem_seg.sem_seg[:] = 255
    assert head.loss_by_feat(logits, samples)['loss_seg'] == 0


def test_gradcheck():
    head = make_head(num_levels=1, pam=dict(foreground_channels=2, se_ratio=4)).double()
    rois = torch.tensor([[0, 1.0, 2, 11, 9]])
    level, rpn = torch.randn(1, 8, 3, 3), torch.randn(1, 2, 3, 3)
    tensors = [x.double().requires_grad_() for x in (level, rpn, torch.randn(1, 1, 2, 2))]
    assert torch.autograd.gradcheck(
        lambda x, p, masks: head([x], [p], masks, rois)['seg_preds'], tensors
    )


@pytest.mark.parametrize('device', DEVICES)
def test_autocast_and_every_gradient(device):
    head = make_head().to(device)
    inputs = make_inputs()
    for name in ('x', 'rpn_features'):
        inputs[name] = [level.to(device).requires_grad_() for level in inputs[name]]
    inputs.update(masks=inputs['masks'].to(device).requires_grad_(), rois=ROIS.to(device))
    exact = head(**inputs)['seg_preds']
    with torch.autocast(device, dtype=torch.bfloat16):
        logits = head(**inputs)['seg_preds']
        loss = head.loss_by_feat(logits, [make_sample(seed=i).to(device) for i in range(2)])
    torch.testing.assert_close(logits.float(), exact, rtol=0.05, atol=0.02)
    loss['loss_seg'].backward()
    sources = [inputs['masks'], *inputs['x'][:4], *inputs['rpn_features'][:4]]
    for tensor in (*sources, *head.parameters()):
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def test_cpu_is_deterministic():
    head, inputs = make_head(), make_inputs()
    inputs['masks'].requires_grad_()
    results = []
    for _ in range(2):
        logits = head(**inputs)['seg_preds']
        results.append((logits, *torch.autograd.grad(logits.square().sum(), inputs['masks'])))
    for first, second in zip(*results):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(semantic_layout='things'), 'semantic_layout must be one of'),
        (dict(mam=dict(source='boxes')), 'mam.source must be one of'),
        (dict(mam=dict(kernel_size=2)), 'kernel_size must be odd'),
        (dict(pam=dict(foreground_channels=6, se_ratio=9)), r'se_ratio must be in 1\.\.8'),
        (dict(pam=dict(foreground_channels=6, se_ratio=0)), r'se_ratio must be in 1\.\.8'),
        (dict(mam=dict(source='features')), 'mam.foreground_channels'),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        make_head(**change)


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('x', [torch.zeros(2, 8, 4, 4)], 'x: expected at least 4 levels, got 1'),
        ('rpn_features', None, 'PAM needs those of 4 levels, .*BANet .* got 0'),
        ('masks', None, 'MAM needs masks of boxes, .*BANet'),
    ],
)
def test_missing_inputs_are_named(name, value, message):
    with pytest.raises(ValueError, match=message):
        make_head()(**make_inputs() | {name: value})
