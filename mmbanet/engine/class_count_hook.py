"""Refuses a model whose class counts are not the data set's (mmdet's own hook knows no stuff)."""

import re
from collections.abc import Callable
from functools import partial

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmbanet.registry import HOOKS

# Of BANet and mmdet's two-stage and one-stage models, alone and within InstanceSemanticFusion,
# OracleModel and PanopticTTAModel.
_THING_HEADS = r'((instance_)?model\.|module\.)?(roi_head\.)?(bbox|mask)_head(\.\d+)?'
_I2S_HEAD = r'(model\.|module\.)?i2s_head'


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compares every head's class counts with the data set, before each kind of loop.

    Raises:
        ValueError: Names the head, the attribute and both counts.
    """

    def before_train(self, runner: Runner) -> None:
        """Checks against the training set."""
        self._check(runner, runner.train_dataloader.dataset.metainfo)

    def before_val(self, runner: Runner) -> None:
        """Checks against the validation set."""
        self._check(runner, runner.val_dataloader.dataset.metainfo)

    def before_test(self, runner: Runner) -> None:
        """Checks against the test set."""
        self._check(runner, runner.test_dataloader.dataset.metainfo)

    def _check(self, runner: Runner, metainfo: dict) -> None:
        if 'thing_classes' not in metainfo or 'stuff_classes' not in metainfo:
            raise ValueError(
                'the data set has no thing_classes and stuff_classes in its metainfo: it is no '
                'panoptic data set'
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_class_counts(model, len(metainfo['thing_classes']), len(metainfo['stuff_classes']))


def head_class_counts(
    name: str, has: Callable[[str], bool], num_things: int, num_stuff: int
) -> dict[str, int]:
    """The class counts of a model's part, by the names of its arguments or attributes.

    Heads with ``num_things_classes`` and ``num_stuff_classes`` have both; I2S their sum; box and
    mask heads the things.

    Args:
        name: Of the part in the model, with dots.
        has: Whether the part has an argument or attribute.
        num_things: Of the data set.
        num_stuff: Of the data set.
    """
    if has('num_things_classes') and has('num_stuff_classes'):
        return dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
    if re.fullmatch(_I2S_HEAD, name):
        return dict(num_classes=num_things + num_stuff)
    if re.fullmatch(_THING_HEADS, name) and has('num_classes'):
        return dict(num_classes=num_things)
    return {}


def check_class_counts(model: nn.Module, num_things: int, num_stuff: int) -> None:
    """Raises a ValueError where a head of ``model`` disagrees with the data set's class counts."""
    for name, module in model.named_modules():
        expected = head_class_counts(name, partial(hasattr, module), num_things, num_stuff)
        for attribute, count in expected.items():
            if getattr(module, attribute) != count:
                raise ValueError(
                    f'model.{name or type(module).__name__}: {attribute} = '
                    f'{getattr(module, attribute)}, but the data set has {count} '
                    f'({num_things} thing and {num_stuff} stuff classes); '
                    'set it in the config'
                )
