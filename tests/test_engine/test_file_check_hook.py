"""The hook that lets data sets and metrics look at their files."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from mmbanet.engine import FileCheckHook

from ..conftest import CONFIGS


class Part:
    """A data set or metric with files."""

    def __init__(self, error=None):
        self.looks, self.error = 0, error

    def check_files(self):
        self.looks += 1
        if self.error:
            raise self.error


def runner_of(train, val, metric):
    loaders = {
        f'{name}_dataloader': SimpleNamespace(dataset=dataset)
        for name, dataset in (('train', train), ('val', val), ('test', val))
    }
    evaluator = SimpleNamespace(metrics=[metric, object()])
    return SimpleNamespace(
        val_loop=object(), val_evaluator=evaluator, test_evaluator=evaluator, **loaders
    )


def test_each_looks_once_before_the_first_iteration():
    hook, train, val, metric = FileCheckHook(), Part(), Part(), Part()
    runner = runner_of(train, val, metric)
    hook.before_train(runner)
    assert [part.looks for part in (train, val, metric)] == [1, 1, 1]
    for call in (hook.before_val, hook.before_test):
        call(runner)
    assert [part.looks for part in (train, val, metric)] == [1, 1, 1]


def test_without_validation():
    hook, train, val = FileCheckHook(), Part(), Part()
    runner = runner_of(train, val, Part())
    runner.val_loop = None
    hook.before_train(runner)
    assert (train.looks, val.looks) == (1, 0)
    hook.before_test(runner)
    assert val.looks == 1


def test_data_sets_within_others_and_those_of_other_packages():
    hook, parts = FileCheckHook(), [Part(), Part()]
    joined = SimpleNamespace(datasets=[SimpleNamespace(dataset=parts[0]), parts[1], object()])
    hook.before_train(runner_of(joined, object(), object()))
    assert [part.looks for part in parts] == [1, 1]


def test_what_a_part_says_stops():
    with pytest.raises(ValueError, match=r'a\.png'):
        FileCheckHook().before_test(runner_of(Part(), Part(), Part(ValueError('a.png'))))


def test_the_configs_have_it():
    hooks = Config.fromfile(CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py').custom_hooks
    assert dict(type='mmbanet.FileCheckHook') in hooks
