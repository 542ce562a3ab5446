"""The paper's model on one real COCO image of half the size: two iterations, then a PQ table.

The pretrained backbone is left out (tests use no network); all else is the config of the paper.
"""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .conftest import COCO_SAMPLE, CONFIGS
from .test_models.test_banet import LOSSES

CONFIG = CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py'
# The sample is of the validation set, so that both loaders read it.
OPTIONS = {
    'model.backbone.init_cfg': None,
    'train_dataloader.dataset.pipeline.2.scale': (667, 400),
    'test_dataloader.dataset.pipeline.1.scale': (667, 400),
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


@pytest.mark.slow
@pytest.mark.skipif(not COCO_SAMPLE.exists(), reason=f'no COCO sample in {COCO_SAMPLE}')
def test_the_model_of_the_paper_trains_and_evaluates(call_tool, tmp_path, capsys):
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(OPTIONS)
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = 'train'
    watch = GradientsAndLosses()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(watch)
    runner.train()

    assert len(watch.losses) == 2
    assert all(torch.isfinite(torch.tensor(list(step.values()))).all() for step in watch.losses)
    without = [
        name
        for name, size in watch.gradients.items()
        if not 0 < size < float('inf') and not name.startswith('backbone')
    ]
    assert without == []

    capsys.readouterr()
    options = [
        f'{k}={v}'.replace(' ', '') for k, v in OPTIONS.items() if k.startswith(('test', 'model'))
    ]
    command = ['test.py', CONFIG, tmp_path / 'iter_2.pth', '--data-root', COCO_SAMPLE]
    call_tool(*command, '--work-dir', tmp_path, '--cfg-options', *options)
    output = ''.join(capsys.readouterr())
    assert re.search(r'All\s*\|\s*[\d.]+\s*\|', output), output[-3000:]
