"""The comparison of models: its stages, counts, fixed inputs, tables, JSON and errors."""

import itertools
import json
import re
import sys

import cv2
import numpy as np
import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..conftest import COCO_SAMPLE, CONFIGS

BANET = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
FPN = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py'


@pytest.fixture
def tool(benchmark_folder):
    import compare_models

    return compare_models


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return path


@pytest.fixture
def run(tool, image, monkeypatch, tmp_path):
    """The command line, on a small image unless told otherwise."""

    def run(*arguments):
        command = ['compare_models.py', '--image', image, '--scale', 64, 64]
        command += ['--rounds', 2, '--training-steps', 1, '--out', tmp_path / 'out', *arguments]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()

    return run


@pytest.fixture
def scene(tool):
    return tool.load_scene(None, (64, 64), 20, 8)


@pytest.fixture
def subject(tool, scene):
    return lambda path: tool.Subject(str(path), scene, 'cpu', None)


def test_tables_and_json(run, tmp_path, capsys):
    pq = tmp_path / 'pq.json'
    pq.write_text(json.dumps({BANET.stem: 41.5}))
    run('--models', FPN, BANET, '--pq', pq)

    report = json.loads((tmp_path / 'out' / 'compare_models_cpu.json').read_text())
    assert report['input'] == {
        'image': 'image.png',
        'size': [64, 64],
        'output': [64, 64],
        'ground_truth': '20 things, drawn',
    }
    rows = report['models']
    assert list(rows) == [FPN.stem, BANET.stem]
    for path, masks in ((FPN, 15), (BANET, 30)):  # score thresholds 0.6 and 0.05
        row = rows[path.stem]
        model = MODELS.build(Config.fromfile(path).model)
        assert row['parameters'] == nn.utils.parameters_to_vector(model.parameters()).numel()
        assert row['fixed'] == {'proposals': 100, 'masks': masks, 'things': 15}
        assert sum(row['ms'].values()) == pytest.approx(row['total_ms'], rel=0.5)
        assert row['bytes'] > 64 * 64 * 4
        assert row['training_bytes'] > 4 * row['parameters']  # the gradients at the least
        assert row['training_ms'] > 0
        assert max(row['operators_ms'].values()) > 0
    assert rows[FPN.stem]['pq'] is None
    assert rows[BANET.stem]['pq'] == 41.5
    assert 'I2S' in rows[BANET.stem]['ms']
    assert 'I2S' not in rows[FPN.stem]['ms']

    printed = capsys.readouterr().out
    (fpn_line, banet_line) = re.findall(r'^\| \w+_scenes \|.*$', printed, re.MULTILINE)
    assert '| 1.00 |' in fpn_line
    assert fpn_line.endswith('|  |')
    assert banet_line.endswith('| 41.5 |')
    (cells,) = re.findall(r'^\| I2S \|(.*)\|(.*)\|$', printed, re.MULTILINE)
    assert cells[0].strip() == ''
    assert float(cells[1].split()[0]) == pytest.approx(rows[BANET.stem]['ms']['I2S'], abs=0.51)


def test_spans_of_a_given_clock(tool):
    from compare_stages import Spans

    now = iter([0, 1, 3, 6, 10, 15])
    spans = Spans(lambda: next(now))
    with spans.span('outer'), spans.span('inner'):  # 0..1 outer, 1..3 inner
        pass
    with pytest.raises(KeyError), spans.span('inner'):  # 10..15; 6..10 is nobody's
        raise KeyError
    assert spans.sums == {'outer': 1 + 3, 'inner': 2 + 5}


class CountedOperators(TorchDispatchMode):
    """How many operators PyTorch has dispatched."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('path', [FPN, BANET])
def test_stages_add_up_to_all_operators(subject, path):
    from compare_stages import REST, by_stage

    tested = subject(path)
    with CountedOperators() as plain:
        tested.inference()()
    prepared = tested.inference()
    with CountedOperators() as counter:
        tested.inference()
        preparing = counter.count
        stages = by_stage(tested.model, prepared, lambda: counter.count)
    assert sum(stages.values()) == plain.count - preparing
    assert all(count > 0 for name, count in stages.items() if name != REST)
    assert stages[REST] < 0.1 * sum(stages.values())
    common = {'backbone', 'neck', 'RPN', 'box head', 'mask head', 'mask pasting', 'semantic head'}
    assert set(stages) - {'I2S'} == common | {'semantic resizing', 'fusion', REST}
    # The model is as before.
    with CountedOperators() as after:
        tested.inference()()
    assert after.count == plain.count


def test_multiply_adds_are_those_of_the_layers(subject):
    from compare_stages import gmacs_by_stage

    tested = subject(FPN)
    macs = dict.fromkeys(('backbone', 'neck', 'rpn_head', 'roi_head', 'semantic_head'), 0)

    def add(part):
        def hook(layer, inputs, output):
            # Every output value of a layer is a sum over the weights of one output channel; of a
            # transposed convolution every input value goes to the weights of one input channel.
            values = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            macs[part] += values.numel() * layer.weight[0].numel()

        return hook

    hooks = [
        layer.register_forward_hook(add(part))
        for part in macs
        for layer in getattr(tested.model, part).modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    ]
    tested.inference()()
    for hook in hooks:
        hook.remove()
    gmacs = gmacs_by_stage(tested.model, tested.inference())
    expected = [macs['backbone'], macs['neck'], macs['rpn_head'], macs['semantic_head']]
    counted = [gmacs[name] for name in ('backbone', 'neck', 'RPN', 'semantic head')]
    assert [1e9 * value for value in counted] == pytest.approx(expected, rel=1e-9)
    assert 1e9 * (gmacs['box head'] + gmacs['mask head']) == pytest.approx(macs['roi_head'])
    assert sum(gmacs.values()) * 1e9 == pytest.approx(sum(macs.values()), rel=1e-9)


def test_multiply_adds_of_deformable_convolutions(tool):
    from compare_stages import gmacs_by_stage

    head = MODELS.build(
        dict(
            type='mmbanet.SemanticFeatureHead',
            in_channels=8,
            feat_channels=(6, 4),
            num_levels=1,
            conv_cfg=dict(type='mmbanet.DeformConv2dPack', deform_groups=1),
            norm_cfg=dict(type='GN', num_groups=2),
        )
    )
    model = nn.Module()
    model.semantic_head = head
    with torch.no_grad():
        gmacs = gmacs_by_stage(model, lambda: model.semantic_head([torch.rand(1, 8, 10, 12)]))
    # Each of the two convolutions, 18 channels of offsets before it, and the logits.
    expected = 10 * 12 * (9 * (8 * (6 + 18) + 6 * (4 + 18)) + 4 * 133)
    assert 1e9 * gmacs['semantic head'] == pytest.approx(expected)


def test_all_models_get_the_same_boxes(subject, scene):
    banet, fpn = subject(BANET), subject(FPN)
    (ours,) = banet.inference()()
    (theirs,) = fpn.inference()()
    assert len(ours.pred_instances) == 20
    assert len(ours.pred_panoptic_seg.detections) == 8
    assert (ours.pred_instances.labels == scene.detections.labels % 8).all()
    # Boxes in pixels of the original image, 427 rows; the input has 43.
    scale = torch.tensor(scene.packed['data_samples'].scale_factor).repeat(2)
    torch.testing.assert_close(ours.pred_instances.bboxes * scale, scene.detections.bboxes)
    things = theirs.pred_panoptic_seg.sem_seg.unique()
    assert 0 < (things >= INSTANCE_OFFSET).sum() <= 8
    # A second time, and in training, too.
    (again,) = banet.inference()()
    assert torch.equal(again.pred_instances.bboxes, ours.pred_instances.bboxes)
    for model in (banet.model, fpn.model):
        proposals = model.rpn_head.predict(
            model.extract_feat(torch.zeros(1, 3, 64, 64)), [scene.packed['data_samples']]
        )
        assert torch.equal(proposals[0].bboxes, scene.proposals.bboxes[:100])


def test_fixed_boxes(scene):
    sample = scene.packed['data_samples']
    height, width = sample.img_shape
    boxes = scene.proposals.bboxes
    assert boxes.shape == (1000, 4)
    assert torch.equal(boxes[:20], sample.gt_instances.bboxes)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    chosen, scores = scene.detections.bboxes, scene.detections.scores
    assert (scores > 0.6).sum() == 8
    assert scores.min() > 0.05
    overlaps = bbox_overlaps(chosen, chosen).fill_diagonal_(0)
    assert overlaps.max() <= 0.5  # NMS keeps all of them
    assert bbox_overlaps(boxes[:100], boxes[:100]).fill_diagonal_(0).max() > 0.5


def test_training_step_leaves_the_weights(subject):
    tested = subject(BANET)
    before = {name: value.detach().clone() for name, value in tested.model.named_parameters()}
    losses = tested.training_step()()
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses['loss_i2s'] > 0
    for name, value in tested.model.named_parameters():
        assert torch.equal(value, before[name]), name
        if 'conv_logits.weight' in name:  # although there was a step with a gradient
            assert tested.optimizer.optimizer.state[value]['exp_avg'].abs().sum() > 0


def test_query_based_models(tool, scene):
    tested = tool.Subject('maskformer_r50', scene, 'cpu', None)
    assert tested.counts() == {'things': 8, 'stuff': 4}
    logits = []
    head = tested.model.panoptic_fusion_head
    fuse = head.predict
    head.predict = lambda cls, *args, **kwargs: logits.append(cls) or fuse(cls, *args, **kwargs)
    from compare_stages import by_stage

    stages = by_stage(tested.model, tested.inference(), itertools.count().__next__)
    assert {'pixel decoder', 'transformer decoder', 'mask resizing', 'fusion'} < set(stages)
    scores, labels = logits[0][0].softmax(-1).max(-1)
    sure = labels < 133
    assert scores.min() > 0.99
    assert (labels[sure] < 80).sum() == 8
    assert labels[sure][8:].tolist() == [80, 81, 82, 83]


@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason=f'no COCO sample in {COCO_SAMPLE}')
def test_annotated_image(tool):
    annotations = json.loads((COCO_SAMPLE / 'annotations' / 'panoptic_val2017.json').read_text())
    things = {category['id'] for category in annotations['categories'] if category['isthing']}
    segments = annotations['annotations'][0]['segments_info']
    path = COCO_SAMPLE / 'val2017' / annotations['images'][0]['file_name']
    scene = tool.load_scene(path, (1333, 800), 30, 15)
    assert scene.ground_truth == 'annotated'
    sample = scene.packed['data_samples']
    assert sample.img_shape == (800, 1199)
    boxes = [
        segment['bbox']
        for segment in segments
        if segment['category_id'] in things and not segment['iscrowd']
    ]
    expected = torch.tensor(boxes, dtype=torch.float32)
    expected[:, 2:] += expected[:, :2]
    scale = torch.tensor(sample.scale_factor).repeat(2)
    torch.testing.assert_close(scene.proposals.bboxes[: len(boxes)], expected * scale)


def test_trained_weights_bring_their_own_detections(tool, scene, tmp_path):
    model = MODELS.build(Config.fromfile(BANET).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    tested = tool.Subject(str(BANET), scene, 'cpu', tmp_path / 'model.pth')
    assert tested.counts() is None
    for name, value in tested.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    (result,) = tested.inference()()
    assert len(result.pred_instances) != 20


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--models', 'banet_r5'], "unknown model 'banet_r5': expected one of panoptic_fpn_r50, "),
        (['--models', '/no_such.py'], 'config not found: /no_such.py'),
        (['--models', 'mmdet::no/such.py'], 'config not found: mmdet::no/such.py'),
        (['--image', 'no_such.jpg'], 'image not found: no_such.jpg'),
        (['--confident', '31'], '--detections must be in 0..'),
        (['--pq', 'no_such.json'], '--pq: no such file: no_such.json'),
        (['--pq', '{banet}'], '--pq: not a JSON object of numbers: '),
        (['--checkpoint', FPN, '/no_such.pth'], 'checkpoint not found: /no_such.pth'),
        (['--checkpoint', FPN, '{banet}'], 'is a checkpoint of another model'),
        (['--checkpoint', BANET, '{banet}'], '--checkpoint of a model that --models lacks'),
    ],
)
def test_errors(run, arguments, message, tmp_path, capsys):
    banet = tmp_path / 'banet.pth'
    torch.save(MODELS.build(Config.fromfile(BANET).model).state_dict(), banet)
    with pytest.raises(SystemExit) as stopped:
        run('--models', FPN, *(str(part).format(banet=banet) for part in arguments))
    assert stopped.value.code == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith('compare_models.py: error: ')
    assert message in last_line
