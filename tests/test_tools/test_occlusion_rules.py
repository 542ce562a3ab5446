"""The comparison of overlap rules: what it runs, computes, prints, writes and refuses."""

import json
import sys

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask

from mmbanet.datasets.scenes import METAINFO, generate_scenes
from mmbanet.models import BANet
from mmbanet.registry import MODELS

from ..conftest import CONFIGS, ROOT

CONFIG = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
OPTIONS = {
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    # An untrained model is sure of nothing.
    'model.test_cfg.panoptic.score_thr': 0.05,
}
RULES = [
    'score order',
    'smaller in front',
    'mean RGB cosine (paper)',
    'Lab Gaussian',
    'RGB histogram',
]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmarks'))
    import occlusion_rules

    yield occlusion_rules
    for name in ('occlusion_rules', 'timing'):
        sys.modules.pop(name)


@pytest.fixture
def run(tool, monkeypatch, tmp_path, scenes):
    """Runs the tool, by default on the scenes; what is given last counts."""

    def run(config, *arguments):
        options = [f'{key}={value}' for key, value in OPTIONS.items()]
        command = ['occlusion_rules.py', config, '--data-root', scenes, '--work-dir', tmp_path]
        command += [*arguments, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', [str(part) for part in command])
        tool.main()

    return run


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=0, val=4, size=64)


@pytest.fixture
def checkpoint(small_cfg, tmp_path):
    model = MODELS.build(small_cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'model.pth'


@pytest.fixture
def truth(scenes):
    """By image id: labels (G,), whole masks (G, H, W) of things from front to back, label map."""
    folder = scenes / 'annotations'
    content = json.loads((folder / 'panoptic_val.json').read_text())
    labels = {category['id']: i for i, category in enumerate(content['categories'])}
    truth = {}
    for annotation in content['annotations']:
        ids = rgb2id(np.array(Image.open(folder / 'panoptic_val' / annotation['file_name'])))
        segments = {segment['id']: segment for segment in annotation['segments_info']}
        semantics = np.zeros(ids.shape, dtype=np.int64)
        for i, segment in segments.items():
            semantics[ids == i] = labels[segment['category_id']]
        things = [segments[i] for i in annotation['depth_order']]
        things = [s for s in things if labels[s['category_id']] < len(METAINFO['thing_classes'])]
        masks = [coco_mask.decode(s['amodal_rle']).astype(bool) for s in things]
        classes = [labels[s['category_id']] for s in things]
        truth[annotation['image_id']] = np.array(classes), np.stack(masks), semantics
    return truth


@pytest.fixture
def perfect_parts(truth, monkeypatch):
    """BANet that detects every thing with its full mask and leaves the overlaps to fusion.

    Scores rise from front to back in every second image: the score order is wrong there.
    """

    def predict(self, batch_inputs, samples, rescale=True):
        for sample in samples:
            labels, masks, semantics = truth[sample.img_id]
            scores = torch.linspace(0.95, 0.65, len(labels))
            sample.pred_instances = InstanceData(
                bboxes=torch.arange(4 * len(labels)).view(-1, 4) * 100.0,  # no duplicates
                labels=torch.from_numpy(labels),
                masks=torch.from_numpy(masks),
                scores=scores.flip(0) if sample.img_id % 2 else scores,
            )
            sample.pred_sem_seg = PixelData(sem_seg=torch.from_numpy(semantics)[None])
            photo = np.array(Image.open(sample.img_path))
            (sample.pred_panoptic_seg,) = self.panoptic_fusion_head.predict(
                [sample.pred_instances],
                [sample.pred_sem_seg.sem_seg],
                [torch.from_numpy(photo).permute(2, 0, 1)],
            )
        return samples

    monkeypatch.setattr(BANet, 'predict', predict)


def evaluate(cfg: Config, scenes, checkpoint, work_dir, rule: str) -> dict[str, float]:
    """As ``tools/test.py`` does, with a rule for overlaps in the config."""
    cfg = Config.fromfile(cfg.filename)
    cfg.merge_from_dict(OPTIONS | {'model.panoptic_fusion_head.overlap_rule': rule})
    ann_file = str(scenes / 'annotations' / 'panoptic_val.json')
    cfg.test_dataloader.dataset.data_root = str(scenes)
    for evaluator in cfg.test_evaluator:
        evaluator.ann_file = ann_file
        if 'seg_prefix' in evaluator:
            evaluator.seg_prefix = ann_file.removesuffix('.json')
    cfg.work_dir = str(work_dir / rule)
    cfg.load_from = str(checkpoint)
    return Runner.from_cfg(cfg).test()
