"""mmdet's own visualizer and inferencer draw the predictions of every detector."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from mmbanet.scenes.drawn.classes import METAINFO

from ..conftest import CONFIGS, make_sample
from . import families
from .test_banet import plain_panoptic_fpn

VOID = 13
IMAGE = np.full((64, 96, 3), 128, np.uint8)


def banet(small_cfg):
    return small_cfg.model


def semantic_feature_head(small_cfg):
    small_cfg.model.i2s_head = None
    return small_cfg.model


def panoptic_fpn_head(small_cfg):
    return families.occlusion_aware(families.panoptic_fpn())


def heuristic(small_cfg):
    return plain_panoptic_fpn(small_cfg, 'mmbanet.BANet').model


def instance_semantic_fusion(small_cfg):
    return families.instance_semantic_fusion('MaskRCNN', families.semantic_segmentor())


def oracles(small_cfg):
    model = families.occlusion_aware(families.panoptic_fpn())
    return ConfigDict(type='mmbanet.OracleModel', model=model, oracles=['semantics', 'boxes'])


DETECTORS = [
    banet,
    semantic_feature_head,
    panoptic_fpn_head,
    heuristic,
    instance_semantic_fusion,
    oracles,
]


def build(cfg):
    """With thing pixels in the semantic map, in most of it."""
    model = MODELS.build(cfg).eval()
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name.endswith('head.conv_logits.bias'):
            parameter.data[-1 if len(parameter) == 6 else 0] = 100.0
    return model


@torch.no_grad()
def predict(model):
    return model.predict(torch.randn(1, 3, 64, 96), [make_sample()])[0]


def draw(sample, meta=METAINFO):
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = meta
    visualizer.add_datasample('image', IMAGE.copy(), sample, draw_gt=False, pred_score_thr=1.1)
    return visualizer.get_image()


@pytest.mark.parametrize('detector', DETECTORS, ids=lambda function: function.__name__)
@pytest.mark.parametrize('palette', [True, False])
def test_predictions_are_drawn(small_cfg, detector, palette):
    result = predict(build(detector(small_cfg)))
    labels = result.pred_sem_seg.sem_seg.unique().tolist()
    merged = detector not in (banet, semantic_feature_head)
    assert (VOID in labels) == merged, labels  # any thing, which is beyond the palette
    meta = {key: value for key, value in METAINFO.items() if palette or key != 'palette'}
    drawn = draw(result, meta)
    assert drawn.shape == IMAGE.shape


@pytest.mark.parametrize('detector', DETECTORS[:-1], ids=lambda function: function.__name__)
def test_a_map_that_is_all_void_is_drawn(small_cfg, detector):
    cfg = detector(small_cfg)
    cfg.test_cfg.panoptic.stuff_area_limit = 10**6
    cfg.get('instance_model', cfg).test_cfg.rcnn.score_thr = 1.0
    result = predict(build(cfg))
    assert (result.pred_panoptic_seg.sem_seg == VOID).all()
    del result.pred_sem_seg, result.pred_instances
    assert np.array_equal(draw(result), IMAGE)


def test_segments_of_a_map_are_drawn_as_ever(small_cfg):
    result = predict(build(banet(small_cfg)))
    del result.pred_sem_seg, result.pred_instances
    result.pred_panoptic_seg.sem_seg[:] = VOID
    result.pred_panoptic_seg.sem_seg[0, :20, :30] = 8
    drawn = draw(result)
    assert (drawn[:20, :30] != IMAGE[:20, :30]).any()
    assert np.array_equal(drawn[30:, 40:], IMAGE[30:, 40:])


@pytest.mark.parametrize('void', [True, False])
@pytest.mark.parametrize(
    'name',
    ['banet/banet_r18_fpn_scenes', 'panoptic_fpn/panoptic_fpn_occlusion_aware_r18_fpn_scenes'],
)
def test_inferencer_of_mmdet(tmp_path, name, void):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    if void:
        cfg.model.test_cfg.panoptic.stuff_area_limit = 10**6
    weights = tmp_path / 'weights.pth'
    model = build(cfg.model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=METAINFO)), weights)
    inferencer = DetInferencer(cfg, str(weights), device='cpu', show_progress=False)
    results = inferencer(IMAGE, return_vis=True, return_datasamples=True)
    (drawn,) = results['visualization']
    assert drawn.shape[0] > IMAGE.shape[0]  # with a legend below
    assert drawn.shape[1:] == IMAGE.shape[1:]
    (sample,) = results['predictions']
    assert not void or (sample.pred_panoptic_seg.sem_seg >= VOID).all()
    cv2.imwrite(str(tmp_path / 'image.png'), IMAGE)
    inferencer(str(tmp_path / 'image.png'), out_dir=str(tmp_path / 'out'), no_save_pred=False)
    assert list((tmp_path / 'out' / 'vis').iterdir())
