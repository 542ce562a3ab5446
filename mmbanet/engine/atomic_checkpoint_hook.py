"""Checkpoints that are complete or not there, whenever the process or the machine stops.

MMEngine's ``CheckpointHook`` deletes the oldest checkpoint before it writes the new one, and writes
it under its final name.
"""

from __future__ import annotations

import os
import os.path as osp
from collections import deque
from contextlib import suppress
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmbanet.registry import HOOKS

# One name a folder: what a kill leaves behind, the next checkpoint replaces.
PARTIAL = '.partial_checkpoint'


class AtomicBackend(LocalBackend):
    """Local files that get their name when they are complete and on the disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file; an OSError names it and leaves what was there before."""
        path = Path(filepath)
        partial = path.with_name(PARTIAL)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _flush_folder(path.parent)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise OSError(error.errno, error.strerror, str(path)) from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """As :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


register_backend('mmbanet.atomic', AtomicBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's, but an old checkpoint is deleted when the new one is there under its name.

    At any moment ``last_checkpoint`` names a complete checkpoint, once there is one. For that there
    is one checkpoint more than ``max_keep_ckpts`` on the disk for a moment. Folders that are not
    local, and those with ``backend_args``, are written by MMEngine's own backends.

    Args: as MMEngine's.
    """

    def __init__(self, *args, backend_args: dict | None = None, **kwargs) -> None:
        if backend_args is None and '://' not in str(kwargs.get('out_dir')):
            backend_args = dict(backend='mmbanet.atomic')
        super().__init__(*args, backend_args=backend_args, **kwargs)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        steps = []
        if self.max_keep_ckpts > 0:
            steps = [s for s in self.keep_ckpt_ids if s != step] + [step]
            # With what is deleted below: a training that is killed before that resumes with it.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        AtomicBackend().put_text(self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint'))
        for old in steps[: -self.max_keep_ckpts]:
            path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        backend, self.file_backend = self.file_backend, _RemovesLater(self.out_dir)
        super()._save_best_checkpoint(runner, metrics)
        outdated, self.file_backend = self.file_backend.outdated, backend
        best = {getattr(self, 'best_ckpt_path', None)}
        best |= set(getattr(self, 'best_ckpt_path_dict', {}).values())
        for path in outdated:
            if path not in best:
                backend.remove(path)


class _RemovesLater(LocalBackend):
    """Notes what MMEngine would delete before the new one is there.

    Args:
        folder: Of the training. A checkpoint from another one that it goes on from, or the folder
            that it is a copy of, names a best checkpoint there, which stays.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).resolve()
        self.outdated: list[str] = []

    def isfile(self, filepath: str | Path) -> bool:
        return Path(filepath).parent.resolve() == self.folder and super().isfile(filepath)

    def remove(self, filepath: str | Path) -> None:
        self.outdated.append(str(filepath))


def _flush_folder(folder: Path) -> None:
    """Puts a renaming on the disk, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
