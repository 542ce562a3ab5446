"""Fingerprints of all that decides a checkpoint or a figure, to know whether an old one is valid.

A fingerprint is a dict with a hash for each part of what decides, so that it can be said which
part has changed. Where the data set lies is no part of it; what lies there is.
"""

import hashlib
import json
import os
import os.path as osp
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import mmdet
import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

import mmbanet
from mmbanet.registry import MODELS

from .launch import replace_data_root

# What MMEngine's runner reads for the one and for the other.
_TRAINING = (
    'train_dataloader',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'custom_hooks',
    'custom_imports',
    'randomness',
    'load_from',
)
_EVALUATION = ('model', 'test_dataloader', 'test_evaluator', 'test_cfg', 'custom_imports')
# Beside data_prefix, what names files and folders of data.
_PATH_KEYS = ('ann_file', 'seg_prefix', 'folder')
# Of a loader of test images, what decides its speed alone.
_SPEED = {'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'}


def training_fingerprint(cfg: Config) -> dict[str, str]:
    """Of the checkpoint that a config trains.

    Nothing that only evaluation reads is part of it, a fusion head without parameters included.
    Where ``load_from`` is a file here, what is in it is.
    """
    placed = _placed(cfg)
    parts = {key: placed.get(key) for key in _TRAINING}
    parts['train_cfg'] = _without(placed.train_cfg, {'val_interval', 'val_begin'})
    untrained = {'test_cfg'}
    if not _has_trained_fusion(cfg):
        untrained.add('panoptic_fusion_head')
    parts['model'] = _without(placed.model, untrained)
    found = _hashes(parts) | {'data': data_fingerprint(cfg.train_dataloader)}
    start = cfg.get('load_from')
    if start and osp.isfile(start):
        found['initial checkpoint'] = _of_file(start)
    return found


def evaluation_fingerprint(cfg: Config, checkpoint: str) -> dict[str, str]:
    """Of the figures that a config gives a checkpoint."""
    placed = _placed(cfg)
    parts = {key: placed.get(key) for key in _EVALUATION}
    parts['test_dataloader'] = _without(placed.test_dataloader, _SPEED)
    parts['versions'] = [package.__version__ for package in (mmbanet, mmdet, torch)]
    parts['data'] = [data_fingerprint(cfg.get(key)) for key in _EVALUATION[:3]]
    return _hashes(parts) | {'checkpoint': _of_file(checkpoint)}


def prediction_fingerprint(model: nn.Module) -> dict[str, str]:
    """Of what a model with its config (``model.cfg``) predicts of an image."""
    weights = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        weights.update(name.encode() + value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    settings = dict(model=model.cfg.model, test_pipeline=get_test_pipeline_cfg(model.cfg))
    return _hashes(settings) | dict(weights=weights.hexdigest())


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """Names of the parts in which two fingerprints differ."""
    return sorted(
        key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)
    )


def data_fingerprint(part: Any) -> str:
    """Of the files that a data loader, evaluator or model reads.

    That is the contents of annotation files, and names and sizes of the files in folders.
    """
    return _hash([_of_path(path) for path in _paths(part)])


def _placed(cfg: Config) -> Config:
    """The config with its data set in one place for all."""
    placed = cfg.copy()
    if cfg.get('data_root'):
        replace_data_root(placed, 'DATA_ROOT')
    return placed


def _without(part: dict, keys: set[str]) -> dict:
    return {key: value for key, value in part.items() if key not in keys}


def _has_trained_fusion(cfg: Config) -> bool:
    head = cfg.model.get('panoptic_fusion_head')
    if head is None:
        return False
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        built = MODELS.build(dict(head, test_cfg=cfg.model.test_cfg.panoptic))
    return any(True for _ in built.parameters())


def _paths(part: Any, root: str = '') -> Iterator[str]:
    """Files and folders that a part of a config names, in its order."""
    if isinstance(part, (list, tuple)):
        for item in part:
            yield from _paths(item, root)
    elif isinstance(part, dict):
        root = part.get('data_root') or root
        for key, value in part.items():
            if key == 'data_prefix':
                yield from (osp.join(root, folder) for folder in value.values() if folder)
            elif key.endswith(_PATH_KEYS) and value and isinstance(value, str):
                yield osp.join(root, value)
            else:
                yield from _paths(value, root)


def _of_path(path: str) -> str:
    if osp.isdir(path):
        return _of_folder(osp.realpath(path))
    return _of_file(path) if osp.isfile(path) else 'not there'


@lru_cache
def _of_folder(path: str) -> str:
    sizes = {}
    for folder, _, names in os.walk(path):
        sizes[osp.relpath(folder, path)] = sorted(
            (name, osp.getsize(osp.join(folder, name))) for name in names
        )
    return _hash(sizes)


def _of_file(path: str) -> str:
    state = os.stat(path)
    return _of_contents(osp.realpath(path), state.st_size, state.st_mtime_ns)


@lru_cache
def _of_contents(path: str, *_: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _hashes(parts: dict) -> dict[str, str]:
    return {key: _hash(part) for key, part in parts.items()}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
