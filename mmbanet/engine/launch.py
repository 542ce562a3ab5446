"""What ``tools/train.py`` and ``tools/test.py`` share: config, distributed set-up."""

import argparse
import os
import os.path as osp
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hub import get_config

from .checkpoints import use_safe_loaders
from .workers import end_with_lost_batches

_PACKAGE = Path(__file__).resolve().parents[1]
# What starts the processes of each launcher, and what they know each other by.
_LAUNCHED = dict(
    pytorch=('torchrun', 'RANK'),
    slurm=('srun', 'SLURM_PROCID'),
    mpi=('mpirun', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)
# Of a config, what is written.
_OUTPUTS = {'work_dir', 'outfile_prefix', 'out_file_path', 'out_dir', 'save_dir', 'test_out_dir'}


def read_config(path: str | os.PathLike) -> Config:
    """The config of a file, or of ``mmdet::`` or ``mmbanet::`` and the name of one of theirs.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: A file of another kind.
    """
    path = str(path)
    if path.startswith('mmbanet::'):
        # Installed beside the package's modules; in a checkout beside the package.
        folders = (_PACKAGE / '.mim' / 'configs', _PACKAGE.parent / 'configs')
        files = [folder / path.removeprefix('mmbanet::') for folder in folders]
        path = str(next(filter(Path.is_file, files), path))
    if not path.startswith('mmdet::'):
        if not osp.isfile(path):
            raise FileNotFoundError(f'config not found: {osp.abspath(path)}')
        if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
            raise ValueError(f'{path} is no config: expected a file that ends with .py')
        return Config.fromfile(path)
    try:
        return get_config(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'config not found: {path}') from error


def load_config(args: argparse.Namespace) -> Config:
    """The config of parsed arguments, ready for MMEngine's runner.

    The work folder is the argument's, else the config's, else ``work_dirs/CONFIG``.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: ``--amp`` without a GPU; a launcher that has not started the process, or
            ``torchrun`` without ``--launcher``.
    """
    _check_launcher(args.launcher)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    if args.amp and not torch.cuda.is_available():
        raise ValueError('--amp needs a GPU: mmcv has no half-precision operators for the CPU')
    use_safe_loaders()
    end_with_lost_batches()
    cfg.launcher = args.launcher
    override(cfg, args.cfg_options)
    if args.data_root:
        replace_data_root(cfg, args.data_root)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    if args.launcher == 'pytorch' and not torch.cuda.is_available():
        _join_cpu_group(cfg)
    return cfg


def _check_launcher(launcher: str) -> None:
    starter, variable = _LAUNCHED.get(launcher, (None, None))
    if variable is not None and variable not in os.environ:
        raise ValueError(
            f'--launcher {launcher}: not started by {starter}, which sets {variable}; without '
            '--launcher one process runs'
        )
    processes = os.environ.get('WORLD_SIZE', '1')
    if launcher == 'none' and processes != '1':
        raise ValueError(
            f'one of {processes} processes (WORLD_SIZE), each of which would run alone, in the '
            'same folder: add --launcher pytorch'
        )


def override(cfg: Config, options: dict[str, Any] | None) -> None:
    """Merges ``--cfg-options`` into a config; warns of a new key that looks like one that is there.

    New keys are taken, as MMEngine takes them: a config need not have all.
    """
    for key in options or {}:
        part: Any = cfg
        for name in key.split('.'):
            if not isinstance(part, (dict, Config)):
                break  # a list, whose places MMEngine checks, or what is replaced by a dict
            if name not in part:
                if near := get_close_matches(name, part.keys(), n=1, cutoff=0.8):
                    warnings.warn(
                        f'{key} is not in the config and does nothing unless somebody reads it; '
                        f'"{name}" for "{near[0]}"?',
                        stacklevel=2,
                    )
                break
            part = part[name]
    cfg.merge_from_dict(options or {})


def replace_data_root(cfg: Config, data_root: str) -> None:
    """Moves every path of a config that lies in ``cfg.data_root`` to another folder, in place.

    Data loaders, evaluators and models alike; outputs (``work_dir``, ``outfile_prefix``, ...) stay.

    Raises:
        ValueError: The config has no ``data_root``, or it is the current folder.
    """
    old = osp.normpath(cfg.get('data_root') or osp.curdir)
    if old == osp.curdir:
        raise ValueError(
            '--data-root replaces data_root of the config, which must be a folder other than the '
            f'current one, got {cfg.get("data_root")!r}'
        )

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            parts = {key: item if key in _OUTPUTS else moved(item) for key, item in value.items()}
            return type(value)(parts)
        if isinstance(value, (list, tuple)):
            return type(value)(moved(item) for item in value)
        if isinstance(value, str) and f'{osp.normpath(value)}/'.startswith(f'{old}/'):
            below = osp.relpath(value, old)
            path = data_root if below == osp.curdir else osp.join(data_root, below)
            return osp.join(path, '') if value.endswith('/') else path
        return value

    for key, value in cfg.items():
        if key not in _OUTPUTS:
            cfg[key] = moved(value)


def augment_tests(cfg: Config) -> None:
    """Lets a test average several views of each image (test-time augmentation), in place.

    ``tta_model`` and ``tta_pipeline`` of the config say how, as mmdet's do. Without them it is
    :class:`mmbanet.models.PanopticTTAModel` with each image as it is and flipped.
    """
    pipeline = cfg.get('tta_pipeline')
    if pipeline is None:
        *steps, pack = cfg.test_dataloader.dataset.pipeline
        if 'meta_keys' in pack:  # mmdet's own have both
            pack = dict(pack, meta_keys=(*pack.meta_keys, 'flip', 'flip_direction'))
        flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
        views = dict(type='TestTimeAug', transforms=[flips, [pack]])
        pipeline = [*steps, views]
    cfg.test_dataloader.dataset.pipeline = pipeline
    cfg.model = dict(cfg.get('tta_model', dict(type='mmbanet.PanopticTTAModel')), module=cfg.model)


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
