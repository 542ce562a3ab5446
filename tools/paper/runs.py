"""Training and evaluation of a config with a seed, each done once and then remembered.

WORK_DIR/CONFIG/seed_0/         what tools/train.py writes, and its output in train.log
WORK_DIR/CONFIG/seed_0/training.json     what was trained, once it is
WORK_DIR/CONFIG/seed_0/metrics/CONFIG.json   what tools/test.py measured of the checkpoint
WORK_DIR/CONFIG/seed_0/metrics/CONFIG.npz    and what PQ counted in each image
WORK_DIR/initial_weights/CONFIG_seed_0.pth   what models of the same backbone begin with

With a seed, trainings see the same batches, and what they share begins with the same weights.
Each record holds the fingerprint of what decides it (:mod:`mmbanet.engine.fingerprints`): figures
of anything else are measured again, a training of anything else is refused.
"""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Lock
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import set_random_seed

from mmbanet.cli.arguments import argument_parser
from mmbanet.engine.fingerprints import (
    differences,
    evaluation_fingerprint,
    training_fingerprint,
)
from mmbanet.engine.launch import load_config

TOOLS = Path(__file__).parents[1]
CONFIGS = TOOLS.parent / 'configs'
_running: set[subprocess.Popen] = set()
#: Set by Ctrl-C: a tool that a thread was just about to start ends at once, too.
interrupted = Event()
# Reading a config and building its parts are not for several threads at a time.
_configs = Lock()


def interrupt_tools() -> None:
    """Passes Ctrl-C on to the tools that are running: this process may be all that got it."""
    interrupted.set()
    for process in list(_running):
        process.send_signal(signal.SIGINT)


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
        donor: The config of whose initial weights it takes what it has, too; None: of its own.
        start: The training whose checkpoint it starts from, in place of initial weights.
    """

    config: str
    seed: int
    work_dir: Path
    data_root: Path
    options: tuple[str, ...] = ()
    gpus: int = 1
    donor: str | None = None
    start: Trained | None = None

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
            ValueError: The folder holds a training with another config, or on other data.
        """
        record = self.folder / 'training.json'
        started = self.folder / 'started.json'
        fingerprint = self._training_fingerprint()
        for path, what in ((record, 'a training'), (started, 'an interrupted training')):
            if path.exists():
                found = json.loads(path.read_text())['fingerprint']
                changed = differences(found, fingerprint)
                if changed:
                    raise ValueError(
                        f'{self.folder} holds {what} of something else than {self.config} is now '
                        f'(changed: {", ".join(changed)}): delete it, or choose another --work-dir'
                    )
        if record.exists():
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(started, dict(fingerprint=fingerprint))
        start = time.monotonic()
        options = [f'randomness.seed={self.seed}']
        # Evaluation is a step of its own.
        options += [f'val_{part}=None' for part in ('cfg', 'dataloader', 'evaluator')]
        resume = ['--resume'] if any(self.folder.glob('iter_*.pth')) else []
        if not resume and (self.start or self.donor):
            weights = self.start.checkpoint if self.start else self._initial_weights()
            options.append(f'load_from={weights}')
        self._run('train.py', resume, options, 'train.log', self.gpus)
        seconds = round(time.monotonic() - start)
        _write(record, dict(fingerprint=fingerprint, config=self.config, seconds=seconds))
        started.unlink()
        return True

    def evaluate(self, config: str) -> dict[str, float]:
        """Metrics of the checkpoint with a config that differs in fusion or oracles only.

        Raises:
            RunFailed: The test tool failed.
        """
        result = self.folder / 'metrics' / f'{Path(config).name}.json'
        with _configs:
            fingerprint = evaluation_fingerprint(self.resolved(config), self.checkpoint)
        if result.exists():
            found = json.loads(result.read_text())
            if found['fingerprint'] == fingerprint:
                return found['metrics']
        result.parent.mkdir(exist_ok=True)
        partial = result.with_suffix('.partial')
        counts = ['--image-counts', str(result.with_suffix('.npz'))]
        self._run(
            'test.py',
            [self.checkpoint, '--out', str(partial), *counts],
            [],
            f'metrics/{Path(config).name}.log',
            config=config,
        )
        metrics = json.loads(partial.read_text())
        _write(result, dict(fingerprint=fingerprint, metrics=metrics))
        return metrics

    def image_counts(self, config: str) -> tuple[np.ndarray, np.ndarray] | None:
        """(N, C, 4) of the images, (C,) is_thing; None where the metric was another than ours."""
        path = self.folder / 'metrics' / f'{Path(config).name}.npz'
        if not path.exists():
            return None
        counted = np.load(path)
        return counted['counts'], counted['is_thing']

    def resolved(self, config: str | None = None) -> Config:
        """The training's config, or another, as the tools read it."""
        arguments = [str(CONFIGS / f'{config or self.config}.py'), *self._settings([])]
        return load_config(argument_parser('').parse_args(arguments))

    def _training_fingerprint(self) -> dict[str, str]:
        with _configs:
            cfg = self.resolved()
            cfg.merge_from_dict({'randomness.seed': self.seed})
            fingerprint = training_fingerprint(cfg)
        weights = self.start.config if self.start else self.donor
        if weights:  # which take the place of the config's own
            fingerprint.pop('initial checkpoint', None)
        return fingerprint | {'processes': str(self.gpus), 'initial weights': str(weights)}

    def _initial_weights(self) -> Path:
        """Checkpoint of the donor, with the same seed, as it begins."""
        path = self.work_dir / 'initial_weights' / f'{Path(self.donor).name}_seed_{self.seed}.pth'
        with _configs:
            if not path.exists():
                cfg = self.resolved(self.donor)
                set_random_seed(self.seed)
                with DefaultScope.overwrite_default_scope(cfg.default_scope):
                    model = MODELS.build(cfg.model)
                logger = MMLogger.get_current_instance()
                level = logger.level
                logger.setLevel('WARNING')  # MMEngine's tells of every parameter
                model.init_weights()
                logger.setLevel(level)
                path.parent.mkdir(exist_ok=True)
                partial = path.with_suffix('.partial')
                torch.save(dict(state_dict=model.state_dict()), partial)
                partial.rename(path)
        return path

    def _settings(self, options: list[str]) -> list[str]:
        """Arguments of all tools."""
        settings = ['--work-dir', str(self.folder), '--data-root', str(self.data_root)]
        if options or self.options:
            settings += ['--cfg-options', *options, *self.options]
        return settings

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
            # Each with a port of its own, whatever else is trained here.
            command += ['-m', 'torch.distributed.run', '--standalone']
            command += ['--nproc-per-node', str(processes)]
        command += [str(TOOLS / tool), str(CONFIGS / f'{config or self.config}.py'), *arguments]
        if processes > 1:
            command += ['--launcher', 'pytorch']
        command += self._settings(options)
        path = self.folder / log
        with path.open('a') as file:
            try:
                # The tool holds it, too, and outlives this process if that alone is killed.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunFailed(f'another process is still writing {path}') from error
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            _running.add(process)
            if interrupted.is_set():
                process.send_signal(signal.SIGINT)
            code = process.wait()
            _running.discard(process)
        if code != 0:
            lines = path.read_text(errors='replace').strip().splitlines()
            raise RunFailed(f'{tool} failed, see {path}: {lines[-1] if lines else "no output"}')


def _write(path: Path, content: dict) -> None:
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=1))
    partial.rename(path)
