"""The front door: the model and the predictions are those of the runner, mistakes are named."""

import copy
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from mmbanet.apis import evaluate, init_model, predict
from mmbanet.apis.inference import inference_pipeline
from mmbanet.scenes import METAINFO, generate_scenes

from ..conftest import CONFIGS

CONFIG = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
# An untrained model is sure of nothing.
ANY_SCORE = {'model.test_cfg.panoptic.score_thr': 0.05}
FIELDS = ('bboxes', 'scores', 'labels', 'masks')


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp('data') / 'scenes', train=0, val=2, size=64)


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """A checkpoint that says, as one of another data set does, that its classes are COCO's."""
    init_default_scope('mmdet')
    model = MODELS.build(Config.fromfile(CONFIG).model)
    path = tmp_path_factory.mktemp('checkpoint') / 'model.pth'
    meta = dict(dataset_meta=dict(classes=('person',), palette=[(0, 0, 0)]))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


@pytest.fixture(scope='module')
def model(trained) -> nn.Module:
    return init_model(CONFIG, trained, cfg_options=ANY_SCORE)


@pytest.fixture
def cfg(scenes, tmp_path) -> Config:
    """For the runner."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(
        ANY_SCORE
        | {
            'work_dir': str(tmp_path),
            'log_level': 'WARNING',
            'test_dataloader.dataset.data_root': str(scenes),
            'test_dataloader.num_workers': 0,
            'test_dataloader.persistent_workers': False,
        }
    )
    for metric in cfg.test_evaluator:
        for key, value in metric.items():
            if isinstance(value, str) and value.startswith(cfg.data_root):
                metric[key] = value.replace(cfg.data_root, f'{scenes}/')
    return cfg


def test_predictions_are_those_of_the_data_loader(model, cfg, trained):
    loaded = MODELS.build(cfg.model).eval()
    loaded.load_state_dict(torch.load(trained)['state_dict'])
    with torch.no_grad():
        batches = map(loaded.test_step, Runner.build_dataloader(cfg.test_dataloader))
        expected = [sample for batch in batches for sample in batch]
    paths = [sample.img_path for sample in expected]
    assert len(paths) == 2
    for inputs in (paths, tuple(Path(path) for path in paths), [cv2.imread(p) for p in paths]):
        found = predict(model, inputs)
        assert isinstance(found, list)
        for sample, truth in zip(found, expected, strict=True):
            assert len(truth.pred_instances) > 1
            for field in FIELDS:
                assert torch.equal(sample.pred_instances[field], truth.pred_instances[field])
            panoptic, other = sample.pred_panoptic_seg, truth.pred_panoptic_seg
            assert torch.equal(panoptic.sem_seg, other.sem_seg)
            assert panoptic.segments_info == other.segments_info
    alone = predict(model, paths[1])
    assert torch.equal(alone.pred_panoptic_seg.sem_seg, expected[1].pred_panoptic_seg.sem_seg)
    mixed = predict(model, [paths[0], cv2.imread(paths[1])])
    assert torch.equal(mixed[1].pred_panoptic_seg.sem_seg, alone.pred_panoptic_seg.sem_seg)


def test_the_model_is_ready_for_inference(model, trained):
    assert not any(module.training for module in model.modules())
    assert model.dataset_meta['classes'] == METAINFO['classes']
    assert model.dataset_meta['palette'] == METAINFO['palette']
    assert model.cfg.model.test_cfg.panoptic.score_thr == 0.05
    for name, value in torch.load(trained)['state_dict'].items():
        assert torch.equal(model.state_dict()[name], value)


def test_the_config_is_left_as_it_is(trained):
    cfg = Config.fromfile(CONFIG)
    before = copy.deepcopy(cfg.to_dict())
    model = init_model(cfg, trained, cfg_options=ANY_SCORE)
    assert cfg.to_dict() == before
    model.cfg.test_dataloader.dataset.data_root = 'elsewhere'
    assert cfg.to_dict() == before


def test_metrics_are_those_of_the_runner_and_hooks_see_the_models_results(cfg, trained, model):
    class Maps(Hook):
        maps: ClassVar[dict[str, torch.Tensor]] = {}

        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            for sample in outputs:
                self.maps[sample.img_path] = sample.pred_panoptic_seg.sem_seg

    found = evaluate(cfg, trained, [Maps()])
    assert len(Maps.maps) == 2
    for path, segments in Maps.maps.items():
        assert torch.equal(predict(model, path).pred_panoptic_seg.sem_seg, segments)
    assert cfg.load_from is None
    cfg.load_from = str(trained)
    cfg.work_dir += '/runner'
    cfg.experiment_name = 'runner'
    assert found == pytest.approx(Runner.from_cfg(cfg).test(), nan_ok=True)


@pytest.mark.parametrize(
    ('config', 'checkpoint', 'error', 'message'),
    [
        ('no.py', None, FileNotFoundError, r'config not found: /.*no\.py$'),
        (CONFIGS, None, FileNotFoundError, r'config not found: /.*configs$'),
        ('other::no/such.py', None, FileNotFoundError, r'config not found: /.*other::no/such\.py$'),
        ('trained', None, ValueError, r'model\.pth is no config: expected a file that ends with'),
        (None, None, TypeError, 'config must be a path or a Config, got NoneType'),
        (Config(dict(model=None)), None, ValueError, 'config: model and test_dataloader must be'),
        ('mmdet::no/such.py', None, FileNotFoundError, r'config not found: mmdet::no/such\.py$'),
        (CONFIG, 'no.pth', FileNotFoundError, r'checkpoint not found: /.*no\.pth$'),
        (CONFIG, Path('no.pth'), FileNotFoundError, r'checkpoint not found: /.*no\.pth$'),
        (
            CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py',
            'trained',
            ValueError,
            'is a checkpoint of another model: ',
        ),
    ],
)
def test_mistakes_in_building(trained, config, checkpoint, error, message):
    config, checkpoint = (trained if path == 'trained' else path for path in (config, checkpoint))
    with pytest.raises(error, match=message):
        init_model(config, checkpoint)


def test_classes_in_another_order_are_told(cfg, trained, tmp_path):
    first, *others = METAINFO['classes']
    classes = [*others, first]
    content = torch.load(trained)
    content['meta']['dataset_meta']['classes'] = classes
    torch.save(content, tmp_path / 'other.pth')
    told = rf'other\.pth was trained with other classes: {others[0]} is now {first}; '
    with pytest.warns(UserWarning, match=told):
        init_model(CONFIG, tmp_path / 'other.pth')
    with pytest.warns(UserWarning, match=told):
        evaluate(cfg, tmp_path / 'other.pth')


def test_random_weights_are_told(cfg):
    with pytest.warns(UserWarning, match='no checkpoint: weights are random'):
        init_model(CONFIG)
    with pytest.warns(UserWarning, match='no checkpoint: weights are random'):
        evaluate(cfg, None)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99'])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ValueError, match=rf'^device {device} cannot be used: [^\n]*$'):
        init_model(CONFIG, device=device)


def test_a_missing_base_is_the_one_that_is_named(tmp_path):
    (tmp_path / 'config.py').write_text("_base_ = 'no_base.py'")
    with pytest.raises(FileNotFoundError, match=r'no_base\.py'):
        init_model(tmp_path / 'config.py')


def test_metrics_of_another_models_checkpoint_are_refused(cfg, tmp_path):
    other = Config.fromfile(CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py')
    torch.save(MODELS.build(other.model).state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='is a checkpoint of another model: '):
        evaluate(cfg, tmp_path / 'other.pth')
    with pytest.raises(FileNotFoundError, match=r'checkpoint not found: /.*no\.pth$'):
        evaluate(cfg, 'no.pth')


@pytest.mark.parametrize(
    ('image', 'error', 'message'),
    [
        ('no.jpg', FileNotFoundError, r'image not found: /.*no\.jpg$'),
        (str(CONFIGS), FileNotFoundError, 'image not found: '),
        (__file__, ValueError, r'not an image: .*test_inference\.py$'),
        (None, TypeError, 'images must be paths or NumPy arrays, got NoneType'),
        (torch.zeros(8, 8, 3), TypeError, 'images must be .* got Tensor'),
        (np.zeros((8, 8), np.uint8), ValueError, r'\(H, W, 3\).*got \(8, 8\) and uint8'),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r'got \(8, 8, 4\) and uint8'),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r'got \(0, 8, 3\) and uint8'),
        (np.zeros((8, 8, 3)), ValueError, r'uint8.*got \(8, 8, 3\) and float64'),
    ],
)
def test_mistakes_in_images(model, image, error, message):
    for images in (image, [image]):
        with pytest.raises(error, match=message):
            predict(model, images)


def test_no_images(model):
    assert predict(model, []) == []


@pytest.mark.parametrize('kind', [str, np.ndarray])
def test_pipelines_of_pure_python_configs(model, kind):
    """There a type is the class, not its name."""
    cfg = copy.deepcopy(model.cfg)
    for step in cfg.test_dataloader.dataset.pipeline:
        step['type'] = TRANSFORMS.get(step['type'])
    by_name = inference_pipeline(model.cfg, kind).transforms
    assert list(map(type, inference_pipeline(cfg, kind).transforms)) == list(map(type, by_name))
