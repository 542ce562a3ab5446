"""What ``tools/train.py`` and ``tools/test.py`` share: arguments, config, distributed set-up."""

import argparse
import os
import os.path as osp
from typing import Any

import torch
from mmengine.config import Config, DictAction

from .checkpoints import allow_mmengine_checkpoints

_SPLITS = ('train', 'val', 'test')


def argument_parser(description: str, default_config: str | None = None) -> argparse.ArgumentParser:
    """Parser with the arguments that training and testing have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        'config', nargs='?' if default_config else None, default=default_config, help='config file'
    )
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints (default: work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='overrides of the config, for example model.backbone.init_cfg=None',
    )
    parser.add_argument('--data-root', help="folder of the data set, in place of the config's")
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision (GPU)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes this argument, torchrun sets the environment variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """The config of parsed arguments, ready for MMEngine's runner.

    The work folder is the argument's, else the config's, else ``work_dirs/CONFIG``.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: ``--amp`` without a GPU.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        raise FileNotFoundError(f'config not found: {osp.abspath(args.config)}')
    if args.amp and not torch.cuda.is_available():
        raise ValueError('--amp needs a GPU: mmcv has no half-precision operators for the CPU')
    allow_mmengine_checkpoints()
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.data_root:
        replace_data_root(cfg, args.data_root)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        _join_cpu_group(cfg)
    return cfg


def replace_data_root(cfg: Config, data_root: str) -> None:
    """Moves every path of the data loaders and evaluators from ``cfg.data_root`` to another folder.

    Raises:
        KeyError: The config has no ``data_root``.
    """
    if 'data_root' not in cfg:
        raise KeyError('--data-root: the config has no data_root to replace')
    old, new = cfg.data_root, osp.join(data_root, '')

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(moved(item) for item in value)
        if isinstance(value, str) and value.startswith(old):
            return new + value[len(old) :]
        return value

    for key in ('data_root', *(f'{a}_{b}' for a in _SPLITS for b in ('dataloader', 'evaluator'))):
        if cfg.get(key) is not None:
            cfg[key] = moved(cfg[key])


def _join_cpu_group(cfg: Config) -> None:
    """Distributed set-up for the CPU, which MMEngine's own (it selects a GPU) cannot do."""
    torch.distributed.init_process_group(backend='gloo')
    # As MMEngine wraps the model by default, but for device_ids, which are for GPUs only.
    wrapper = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.setdefault('model_wrapper_cfg', wrapper)
