"""The full-size model on one real COCO image: two iterations, a checkpoint, a PQ table.

The pretrained backbone is left out (tests use no network); all else is the config of the paper.
"""

import multiprocessing
import os
import re
import resource
import subprocess
import sys
import time

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .conftest import COCO_SAMPLE, CONFIGS, ROOT
from .test_models.test_banet import LOSSES

CONFIG = CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py'
# The sample is of the validation set, so that both loaders read it.
OPTIONS = {
    'model.backbone.init_cfg': None,
    'train_cfg.max_iters': 2,
    'train_dataloader.batch_size': 1,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.dataset.data_root': f'{COCO_SAMPLE}/',
    'train_dataloader.dataset.ann_file': 'annotations/panoptic_val2017.json',
    'train_dataloader.dataset.data_prefix.img': 'val2017/',
    'train_dataloader.dataset.data_prefix.seg': 'annotations/panoptic_val2017/',
    'train_dataloader.dataset.instances_ann_file': None,
    'test_dataloader.num_workers': 0,
    # The sample has no instance annotations, see also above.
    'test_evaluator.1.ann_file': f'{COCO_SAMPLE}/annotations/panoptic_val2017.json',
    'test_evaluator.1.seg_prefix': f'{COCO_SAMPLE}/annotations/panoptic_val2017/',
    'test_dataloader.persistent_workers': False,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.logger.interval': 1,
    # Validation is what tools/test.py does below.
    'val_cfg': None,
    'val_dataloader': None,
    'val_evaluator': None,
}


class GradientsAndLosses(Hook):
    """Sums the gradients' magnitudes by parameter and keeps the losses of every iteration."""

    def __init__(self) -> None:
        self.gradients: dict[str, float] = {}
        self.losses: list[dict[str, float]] = []

    def before_train(self, runner) -> None:
        for name, parameter in runner.model.named_parameters():
            if parameter.requires_grad:
                self.gradients[name] = 0.0
                parameter.register_post_accumulate_grad_hook(
                    lambda p, name=name: self._add(name, p.grad)
                )

    def _add(self, name: str, gradient: torch.Tensor) -> None:
        self.gradients[name] += gradient.abs().sum().item()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append({name: float(outputs[name]) for name in LOSSES})


def train(work_dir: str, queue: multiprocessing.Queue) -> None:
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(OPTIONS)
    cfg.work_dir = work_dir
    watch = GradientsAndLosses()
    start = time.perf_counter()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(watch)
    runner.train()
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    queue.put((watch.losses, watch.gradients, seconds, memory))


@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason=f'no COCO sample in {COCO_SAMPLE}')
def test_full_size_model_trains_and_evaluates(tmp_path, capsys):
    # A process of its own, for its own peak of memory.
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    process = context.Process(target=train, args=(str(tmp_path), queue))
    process.start()
    while process.is_alive() and queue.empty():
        process.join(timeout=1)
    assert process.is_alive() or not queue.empty(), f'training failed: exit code {process.exitcode}'
    losses, gradients, seconds, memory = queue.get()
    process.join()

    assert len(losses) == 2
    assert all(torch.isfinite(torch.tensor(list(step.values()))).all() for step in losses)
    without = [
        name
        for name, size in gradients.items()
        if not 0 < size < float('inf') and not name.startswith('backbone')
    ]
    assert without == []
    with capsys.disabled():
        print(f'\nR50, 800x1333, two iterations: {seconds:.0f} s, peak memory {memory:.1f} GiB')

    start = time.perf_counter()
    options = [f'{k}={v}' for k, v in OPTIONS.items() if k.startswith(('test', 'model'))]
    command = [sys.executable, 'tools/test.py', str(CONFIG), str(tmp_path / 'iter_2.pth')]
    command += ['--data-root', str(COCO_SAMPLE), '--work-dir', str(tmp_path)]
    with (tmp_path / 'test.log').open('w') as log:
        tool = subprocess.Popen(
            [*command, '--cfg-options', *options], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(tool.pid, 0)
    output = (tmp_path / 'test.log').read_text()
    assert status == 0, output[-3000:]
    assert re.search(r'All\s*\|\s*[\d.]+\s*\|', output), output[-3000:]
    seconds, memory = time.perf_counter() - start, usage.ru_maxrss / 2**20
    with capsys.disabled():
        print(f'tools/test.py on its checkpoint: {seconds:.0f} s, peak memory {memory:.1f} GiB')
