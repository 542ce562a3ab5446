"""Trains a fusion head on top of a model that is trained already, and frozen."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix
from torch import Tensor

# What would drop instances behind the transform that looks at their order.
DROPPING = ('RandomCrop', 'FilterAnnotations')


def train_fusion_head(
    cfg: Config, head: dict, iterations: int, work_dir: Path, seed: int = 0
) -> dict[str, Tensor]:
    """Its weights, also kept in the work folder.

    All else is the config's: data, batches, optimiser, and the schedule in the same proportions.

    Args:
        cfg: With ``load_from``, a ``mmbanet.BANet``; left as it is.
        head: Config of a fusion head that has parameters and a loss.
        iterations: To train.
        work_dir: For checkpoints and logs.
        seed: Of weights and batches.
    """
    cfg = cfg.copy()
    cfg.merge_from_dict({'model.train_cfg.fusion_head_only': True})
    cfg.model.panoptic_fusion_head = head
    cfg.train_dataloader.dataset.pipeline = ordered(
        cfg.train_dataloader.dataset.pipeline, cfg.model.test_cfg.panoptic.occlusion_thr
    )
    cfg.param_scheduler = shorten(cfg, iterations)
    cfg.train_cfg.merge(dict(max_iters=iterations, val_interval=iterations + 1))
    for mode in ('val', 'test'):
        for part in ('cfg', 'dataloader', 'evaluator'):
            cfg[f'{mode}_{part}'] = None
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=iterations, save_optimizer=False
    )
    cfg.merge_from_dict({'randomness.seed': seed, 'log_level': 'WARNING'})
    cfg.work_dir = str(work_dir)
    Runner.from_cfg(cfg).train()
    # The checkpoint's are the averaged ones where a hook averages weights.
    return _load_checkpoint_with_prefix(
        'panoptic_fusion_head', str(work_dir / f'iter_{iterations}.pth'), map_location='cpu'
    )


def shorten(cfg: Config, iterations: int) -> list[dict]:
    """The config's schedule in the same proportions over fewer iterations."""
    share = iterations / cfg.train_cfg.max_iters
    schedule = []
    for scheduler in cfg.param_scheduler:
        begin = round(share * scheduler.begin)
        scheduler = dict(scheduler, begin=begin, end=max(round(share * scheduler.end), begin + 1))
        if 'milestones' in scheduler:
            scheduler['milestones'] = [round(share * place) for place in scheduler['milestones']]
        schedule.append(scheduler)
    return schedule


def ordered(pipeline: list[dict], overlap_thr: float) -> list[dict]:
    """The same transforms with who is in front, see :class:`mmbanet.LoadInstanceOrder`."""
    steps = []
    for step in pipeline:
        if step['type'] in DROPPING:
            continue
        if step['type'] == 'PackDetInputs':
            step = dict(step, type='mmbanet.PackOrderedInputs')
        steps.append(step)
        if step['type'] == 'mmbanet.LoadPanopticAnnotations':
            steps.append(dict(type='mmbanet.LoadInstanceOrder', overlap_thr=overlap_thr))
    return steps
