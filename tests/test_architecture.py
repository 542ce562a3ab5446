"""docs/architecture.md says what is so: its files exist, its gradients flow, its config runs."""

import re

import pytest
import torch
from mmengine.config import Config

from mmbanet.registry import MODELS

from .conftest import CONFIGS, ROOT
from .test_models.test_banet import make_batch

TEXT = (ROOT / 'docs' / 'architecture.md').read_text()
LOSSES = re.findall(r'^\| `(loss_\w+)` \| .* \| (.*) \|$', TEXT, re.M)


def test_every_file_is_there():
    found = re.findall(
        r'`([\w./-]+(?:\.py|\.toml|/))`|((?:models|ops|structures)/\w[\w/]*\.py)', TEXT
    )
    # In capitals: what is to be written.
    named = {path for pair in found for path in pair if path and not re.search('[A-Z]{4}', path)}
    assert len(named) > 35
    folders = (ROOT, ROOT / 'mmbanet', ROOT / 'tools' / 'benchmarks')
    missing = [path for path in named if not any((folder / path).exists() for folder in folders)]
    assert missing == []


def test_losses_train_the_parts_of_the_table(small_cfg):
    assert len(LOSSES) == 7
    torch.manual_seed(0)
    model = MODELS.build(small_cfg.model).train()
    model.init_weights()
    losses = model.loss(*make_batch())
    for name, parts in LOSSES:
        model.zero_grad()
        value = losses.pop(name)
        (sum(value) if isinstance(value, list) else value).backward(retain_graph=True)
        trained = {
            parameter.removeprefix('roi_head.').split('.')[0]
            for parameter, weight in model.named_parameters()
            if weight.grad is not None and weight.grad.any()
        }
        assert trained == {'backbone', 'neck', *parts.split(', ')}, name
    assert set(losses) == {'acc'}


@pytest.mark.slow
def test_the_config_of_another_stride_trains_and_predicts(tmp_path):
    (text,) = re.findall(r'```python\n(.*?)```', TEXT, re.S)
    base = CONFIGS / 'banet' / 'banet_r50_fpn_1x_coco.py'
    path = tmp_path / 'stride_8.py'
    path.write_text(text.replace("'banet_r50_fpn_1x_coco.py'", f"'{base}'"))
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    batch = make_batch()
    losses = model.train().loss(*batch)
    sum(sum(v) if isinstance(v, list) else v for v in losses.values()).backward()
    assert model.semantic_head(model.extract_feat(batch[0]))['seg_feats'].shape[2:] == tuple(
        side // 8 for side in batch[0].shape[2:]
    )
    with torch.no_grad():
        results = model.eval().predict(*make_batch())
    for sample in results:
        assert sample.pred_panoptic_seg.sem_seg.shape[1:] == tuple(sample.ori_shape)
