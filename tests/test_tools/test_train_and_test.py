"""The command-line tools as a user runs them, on a handful of generated scenes."""

import re
import runpy
import sys

import pytest
import torch
from mmengine.runner import Runner

from mmbanet.scenes import generate_scenes

from ..conftest import CONFIGS, ROOT, run_on_two_ranks

CONFIG = str(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
TWO_ITERATIONS = [
    'train_cfg.max_iters=2',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.logger.interval=1',
]


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'scenes'
    generate_scenes(root, train=6, val=2, size=64, seed=0)
    return str(root)


@pytest.mark.slow
def test_train_resume_and_test(call_tool, scenes, tmp_path, capsys):
    options = ['--data-root', scenes, '--work-dir', tmp_path, '--cfg-options', *TWO_ITERATIONS]
    call_tool('train.py', CONFIG, *options, 'experiment_name=two')
    assert (tmp_path / 'iter_2.pth').exists()

    three = ['train_cfg.max_iters=3', 'experiment_name=three']
    capsys.readouterr()
    call_tool('train.py', CONFIG, '--resume', *options, *three)
    iterations = re.findall(r'Iter\(train\) \[ *(\d+)/', ''.join(capsys.readouterr()))
    assert iterations == ['3']

    call_tool('test.py', CONFIG, tmp_path / 'iter_3.pth', *options)
    assert re.search(r'All\s*\|\s*[\d.]+', ''.join(capsys.readouterr()))


def train_one_rank(scenes: str, work_dir: str) -> tuple[list[int], dict]:
    """Trains by the tool, without things on the second rank: how many there were, and weights."""
    from mmbanet.models import BANet

    counts, weights = [], {}
    loss, train = BANet.loss, Runner.train

    def loss_of_few(self, inputs, samples):
        if torch.distributed.get_rank() == 1:
            for sample in samples:
                sample.gt_instances = sample.gt_instances[:0]
        counts.append(sum(len(sample.gt_instances) for sample in samples))
        return loss(self, inputs, samples)

    def train_and_keep(self):
        weights.update(train(self).module.named_parameters())

    BANet.loss, Runner.train = loss_of_few, train_and_keep
    options = ['--data-root', scenes, '--work-dir', work_dir, '--cfg-options', *TWO_ITERATIONS]
    sys.argv = ['train.py', CONFIG, '--launcher', 'pytorch', *options]
    runpy.run_path(str(ROOT / 'tools' / 'train.py'))['main']()
    return counts, weights


@pytest.mark.slow
def test_two_ranks_with_one_image_without_things(scenes, tmp_path):
    """No hang, and the same weights on both ranks."""
    results = run_on_two_ranks(train_one_rank, tmp_path, scenes, str(tmp_path))
    counts, weights = zip(*results)
    assert all(count > 0 for count in counts[0])
    assert list(counts[1]) == [0, 0]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


@pytest.mark.parametrize(
    ('name', 'arguments', 'options', 'message'),
    [
        ('train.py', ['nowhere.py'], [], 'config not found: .*nowhere.py'),
        # The last --data-root counts.
        (
            'train.py',
            [CONFIG, '--data-root', 'nowhere'],
            [],
            'annotation file not found: .*nowhere',
        ),
        # Before the data are read, which takes minutes.
        (
            'train.py',
            [CONFIG, '--data-root', 'nowhere'],
            ['load_from=nowhere.pth'],
            'load_from not found: .*nowhere.pth',
        ),
        ('test.py', [CONFIG, 'nowhere.pth'], [], 'checkpoint not found: .*nowhere.pth'),
        (
            'test.py',
            [CONFIG, CONFIG, '--image-counts', 'counts.npz'],
            ['test_evaluator.0.type=CocoMetric'],
            r'--image-counts: no mmbanet\.PanopticMetric in test_evaluator',
        ),
        (
            'train.py',
            [CONFIG],
            ['model.i2s_head.type=mmbanet.I2SHaed'],
            'mmbanet.I2SHaed is not in the',
        ),
        (
            'train.py',
            [CONFIG],
            ['model.i2s_head.num_classes=7'],
            r'i2s_head\.num_classes: 7, but panoptic_fusion_head has 13',
        ),
        pytest.param(
            'train.py',
            [CONFIG, '--amp'],
            [],
            '--amp needs a GPU',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has a GPU'),
        ),
    ],
)
def test_mistakes_get_one_clear_error(call_tool, name, arguments, options, message, scenes):
    command = [name, '--data-root', scenes, *arguments, '--cfg-options', *TWO_ITERATIONS, *options]
    assert re.search(message, error_of(call_tool, *command))


def error_of(call_tool, name, *arguments) -> str:
    """The one line that a tool ends with."""
    with pytest.raises(SystemExit) as stopped:
        call_tool(name, *arguments)
    assert stopped.value.code.startswith(f'{name}: ')
    assert '\n' not in stopped.value.code
    return stopped.value.code


def test_a_checkpoint_of_another_model_is_refused(call_tool, scenes, checkpoint, tmp_path):
    options = ['--data-root', scenes, '--work-dir', tmp_path, '--cfg-options', *TWO_ITERATIONS]
    other = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py'
    message = error_of(call_tool, 'test.py', other, checkpoint, *options)
    assert f'{checkpoint} is a checkpoint of another model: ' in message
    assert 'unexpected key in source state_dict: ' in message
    assert 'i2s_head.sim' in message
