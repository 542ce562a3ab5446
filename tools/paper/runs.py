"""Training and evaluation of a config with a seed, each done once and then remembered.

WORK_DIR/CONFIG/seed_0/         what tools/train.py writes, and its output in train.log
WORK_DIR/CONFIG/seed_0/training.json     the config that was trained, once it is
WORK_DIR/CONFIG/seed_0/metrics/CONFIG.json   what tools/test.py measured of the checkpoint
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

TOOLS = Path(__file__).parents[1]
CONFIGS = TOOLS.parent / 'configs'
# What decides how a checkpoint comes out; the rest of a config is about evaluation and logs.
TRAINED_KEYS = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
TRAINED_PARTS = (
    'backbone',
    'neck',
    'rpn_head',
    'roi_head',
    'semantic_head',
    'i2s_head',
    'train_cfg',
    'data_preprocessor',
)


class RunFailed(RuntimeError):
    """A tool ended with an error; the message names its log and ends with its last line."""


class Trained(NamedTuple):
    """A config that is trained with a seed.

    Attributes:
        config: Path under ``configs/`` without suffix.
        seed: Of the random numbers.
        work_dir: Folder of all runs.
        data_root: Folder of the data set.
        options: ``--cfg-options`` of all tools.
        gpus: Processes for training.
    """

    config: str
    seed: int
    work_dir: Path
    data_root: Path
    options: tuple[str, ...] = ()
    gpus: int = 1

    @property
    def folder(self) -> Path:
        """Where all of it is."""
        return self.work_dir / Path(self.config).name / f'seed_{self.seed}'

    @property
    def checkpoint(self) -> str:
        """Path of the last one."""
        return (self.folder / 'last_checkpoint').read_text().strip()

    @property
    def seconds(self) -> int:
        """How long the training took; after an interruption, what followed it."""
        return json.loads((self.folder / 'training.json').read_text())['seconds']

    def train(self) -> bool:
        """Trains, or goes on where an earlier run stopped.

        Returns:
            Whether anything was left to do.

        Raises:
            RunFailed: The training tool failed.
            ValueError: The folder holds a checkpoint of another config.
        """
        record = self.folder / 'training.json'
        trained = self._fingerprint()
        if record.exists():
            found = json.loads(record.read_text())
            if found['fingerprint'] != trained:
                raise ValueError(
                    f'{self.folder} was trained with another config than {self.config} is now: '
                    'delete it, or choose another --work-dir'
                )
            return False
        started = self.folder / 'started.json'
        if started.exists() and json.loads(started.read_text())['fingerprint'] != trained:
            raise ValueError(
                f'{self.folder} holds an interrupted training of another config than '
                f'{self.config} is now: delete it, or choose another --work-dir'
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(started, dict(fingerprint=trained))
        start = time.monotonic()
        options = [f'randomness.seed={self.seed}']
        # Evaluation is a step of its own.
        options += [f'val_{part}=None' for part in ('cfg', 'dataloader', 'evaluator')]
        self._run('train.py', ['--resume'], options, 'train.log', self.gpus)
        seconds = round(time.monotonic() - start)
        _write(record, dict(fingerprint=trained, config=self.config, seconds=seconds))
        started.unlink()
        return True

    def evaluate(self, config: str) -> dict[str, float]:
        """Metrics of the checkpoint with a config that differs in fusion or oracles only.

        Raises:
            RunFailed: The test tool failed.
        """
        result = self.folder / 'metrics' / f'{Path(config).name}.json'
        if not result.exists():
            result.parent.mkdir(exist_ok=True)
            partial = result.with_suffix('.partial')
            self._run(
                'test.py',
                [self.checkpoint, '--out', str(partial)],
                [],
                f'metrics/{Path(config).name}.log',
                config=config,
            )
            partial.rename(result)
        return json.loads(result.read_text())

    def _fingerprint(self) -> str:
        cfg = Config.fromfile(CONFIGS / f'{self.config}.py')
        parts = {key: cfg.get(key) for key in TRAINED_KEYS}
        parts['model'] = {key: cfg.model.get(key) for key in TRAINED_PARTS}
        text = json.dumps([parts, self.options, self.seed], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _run(
        self,
        tool: str,
        arguments: list[str],
        options: list[str],
        log: str,
        processes: int = 1,
        config: str | None = None,
    ) -> None:
        command = [sys.executable]
        if processes > 1:
            command += ['-m', 'torch.distributed.run', '--nproc-per-node', str(processes)]
        command += [str(TOOLS / tool), str(CONFIGS / f'{config or self.config}.py'), *arguments]
        command += ['--work-dir', str(self.folder), '--data-root', str(self.data_root)]
        if processes > 1:
            command += ['--launcher', 'pytorch']
        if options or self.options:
            command += ['--cfg-options', *options, *self.options]
        path = self.folder / log
        with path.open('a') as file:
            try:
                # The tool holds it, too, and outlives this process if that alone is killed.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFailed(f'another process is still writing {path}') from error
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
        if code != 0:
            lines = path.read_text(errors='replace').strip().splitlines()
            raise RunFailed(f'{tool} failed, see {path}: {lines[-1] if lines else "no output"}')


def _write(path: Path, content: dict) -> None:
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=1))
    partial.rename(path)
