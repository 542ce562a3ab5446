"""What ``tools/train.py`` and ``tools/test.py`` share: arguments, config, distributed set-up."""

import argparse
import os
import os.path as osp

import torch
from mmengine.config import Config, DictAction


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Parser with the arguments that training and testing have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
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
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes this argument, torchrun sets the environment variable.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def load_config(args: argparse.Namespace) -> Config:
    """The config of parsed arguments, ready for MMEngine's runner.

    The work folder is the argument's, else the config's, else ``work_dirs/CONFIG``.

    Raises:
        FileNotFoundError: There is no such config.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not osp.isfile(args.config):
        raise FileNotFoundError(f'config not found: {osp.abspath(args.config)}')
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        _join_cpu_group(cfg)
    return cfg


def _join_cpu_group(cfg: Config) -> None:
    """Distributed set-up for the CPU, which MMEngine's own (it selects a GPU) cannot do."""
    torch.distributed.init_process_group(backend='gloo')
    # DistributedDataParallel takes device_ids on GPUs only.
    cfg.setdefault('model_wrapper_cfg', dict(type='MMDistributedDataParallel', device_ids=None))
