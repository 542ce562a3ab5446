"""Lets data sets and metrics look at their files before the first iteration."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmbanet.registry import HOOKS


@HOOKS.register_module()
class FileCheckHook(Hook):
    """Calls ``check_files`` of data sets and metrics that have it, once, before each kind of loop.

    A training looks at what its validation will read, too.

    Raises:
        FileNotFoundError, ValueError: As ``check_files``, which names the file.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._checked: set[int] = set()

    def before_train(self, runner: Runner) -> None:
        """Looks at the files of training and validation."""
        self._check(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Looks at the files of validation."""
        self._check(runner.val_dataloader.dataset, *runner.val_evaluator.metrics)

    def before_test(self, runner: Runner) -> None:
        """Looks at the files of the test."""
        self._check(runner.test_dataloader.dataset, *runner.test_evaluator.metrics)

    def _check(self, *parts: Any) -> None:
        for part in parts:
            for found in _with_files(part):
                if id(found) not in self._checked:
                    found.check_files()
                    self._checked.add(id(found))


def _with_files(part: Any) -> Iterator[Any]:
    """A data set or metric with files, or those that a data set is made of."""
    if hasattr(part, 'check_files'):
        yield part
    else:
        wrapped = getattr(part, 'datasets', None) or [getattr(part, 'dataset', None)]
        for inner in wrapped:
            if inner is not None:
                yield from _with_files(inner)
