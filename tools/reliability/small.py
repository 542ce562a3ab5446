"""The small training that rows interrupt, on a handful of generated scenes."""

from __future__ import annotations

from pathlib import Path

from mmbanet.scenes import generate_scenes

from .children import run_tool

CONFIG = Path(__file__).with_name('narrow_scenes.py')
#: Options of a training that ends with its last iteration.
NO_VALIDATION = ('val_cfg=None', 'val_dataloader=None', 'val_evaluator=None')


def make_scenes(folder: Path, train: int = 6, val: int = 2) -> Path:
    """A data set of scenes of 64 x 64 pixels."""
    generate_scenes(folder, train=train, val=val, size=64, seed=0)
    return folder


def arguments(scenes: Path, work_dir: Path, *options: str) -> list[str]:
    """Of ``train.py``, and of ``test.py``, which takes a checkpoint first.

    Args:
        scenes: Data set.
        work_dir: Of the run.
        options: Overrides of the config, ``KEY=VALUE``.
    """
    places = [str(CONFIG), '--data-root', str(scenes), '--work-dir', str(work_dir)]
    return [*places, '--cfg-options', 'train_cfg.max_iters=4', *options]


def trained(scenes: Path, work_dir: Path) -> Path:
    """A checkpoint of one iteration; made by the first call."""
    path = work_dir / 'iter_1.pth'
    if not path.exists():
        command = arguments(scenes, work_dir, 'train_cfg.max_iters=1', *NO_VALIDATION)
        status, child = run_tool('train.py', *command, folder=work_dir)
        if status:
            raise RuntimeError(f'the training failed: {child.last_line()}')
    return path
