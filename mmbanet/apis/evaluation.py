"""Config and checkpoint to metrics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmbanet.engine.checkpoints import load_whole, use_safe_loaders
from mmbanet.messages import check_found

from .inference import NO_CHECKPOINT
from .settled_classes import settle_classes, warn_of_other_classes


def evaluate(
    config: Config, checkpoint: str | PathLike | None, hooks: Sequence[Hook] = ()
) -> dict[str, float]:
    """Metrics of a model over the test set of its config, by MMEngine's runner.

    Args:
        config: Ready for the runner, with ``work_dir``.
        checkpoint: File or URL; None if the parts of the model bring their own.
        hooks: See every batch after all others.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A checkpoint of another model.
    """
    check_found('checkpoint', checkpoint)
    if checkpoint is None:
        warnings.warn(NO_CHECKPOINT, stacklevel=2)
    config = config.copy()
    settle_classes(config, checkpoint)
    # A checkpoint's weights are the averaged ones where a training averages; to look for more in it
    # refuses those that hold weights alone.
    config.custom_hooks = [
        hook for hook in config.get('custom_hooks', ()) if hook.get('type') != 'EMAHook'
    ]
    config.load_from = None if checkpoint is None else str(checkpoint)
    use_safe_loaders()
    runner = Runner.from_cfg(config)
    load_checkpoint = runner.load_checkpoint

    def load(path: str, **arguments: Any) -> dict:
        content = load_whole(load_checkpoint, path, **arguments)
        metainfo = getattr(runner.test_dataloader.dataset, 'metainfo', {})
        warn_of_other_classes(path, content, metainfo)
        return content

    runner.load_checkpoint = load
    for hook in hooks:
        runner.register_hook(hook, priority='LOWEST')
    return runner.test()
