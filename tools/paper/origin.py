"""Where a table comes from, to be written beside its figures."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from datetime import date

import torch
from benchmarks.timing import machine
from mmengine.config import Config

from mmbanet.engine.fingerprints import data_fingerprint

from .runs import TOOLS


def origin(arguments: Sequence[str], cfg: Config) -> dict:
    """The command that makes the table again, and what the figures depend on beside it.

    Args:
        arguments: Of ``tools/reproduce.py``, but for where data and results lie.
        cfg: Of one of the trainings: which data they read.
    """
    loaders = dict(train=cfg.train_dataloader, val=cfg.val_dataloader)
    return dict(
        command=shlex.join(['python', 'tools/reproduce.py', *arguments]),
        date=date.today().isoformat(),
        commit=_commit(),
        machine=machine('cuda' if torch.cuda.is_available() else 'cpu'),
        data_sha256={split: data_fingerprint(loader) for split, loader in loaders.items()},
    )


def _commit() -> str:
    """Of the package, with ``-dirty`` if files differ from it; ``unknown`` out of a clone."""
    command = ['git', '-C', str(TOOLS), 'describe', '--always', '--dirty', '--abbrev=12']
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return found.stdout.strip()
