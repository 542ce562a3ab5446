"""Labels of every source of semantics behind every fusion head, with many thing classes and one.

Known logits go in; the labels that they must become are written here for each source.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from PIL import Image

from ..conftest import make_sample
from . import families
from .test_banet import plain_panoptic_fpn

STUFF = 5
# Thing classes in the order of the channels, or one channel for all of them at the end.
SOURCES = {
    'PanopticFPNHead': 'last',
    'SemanticFeatureHead': 'first',
    'I2SHead': 'first',
    'SemanticSegmentor of PanopticFPNHead': 'last',
    'SemanticSegmentor of SemanticFeatureHead': 'first',
    'SemanticPredictionFolder': None,
}
# Order rules of the occlusion-aware head (None: by score), and the head of mmdet.
FUSIONS = {
    'MeanColor': dict(type='mmbanet.MeanColor'),
    'SmallerInFront': dict(type='mmbanet.SmallerInFront'),
    'score': None,
    'HeuristicFusionHead': None,
}
SIZE = (64, 96)


def fusion_head(fusion, counts):
    """The head and its settings in ``test_cfg.panoptic``."""
    if fusion == 'HeuristicFusionHead':
        return dict(type=fusion, **counts), dict(mask_overlap=0.5, stuff_area_limit=0)
    head = dict(type='mmbanet.OcclusionAwareFusionHead', order=FUSIONS[fusion], **counts)
    settings = dict(score_thr=0.6, nms=None, occlusion_thr=0.2, removal_thr=0.5, stuff_area_limit=0)
    return head, settings


def set_counts(model, counts):
    for part in ('bbox_head', 'mask_head'):
        model.roi_head[part].num_classes = counts['num_things_classes']
    for part in ('semantic_head', 'panoptic_fusion_head'):
        if part in model:
            model[part].merge(counts)


def detector(small_cfg, source, fusion, things, folder):
    """A model without detections; of random weights, but for the logits."""
    counts = dict(num_things_classes=things, num_stuff_classes=STUFF)
    head, settings = fusion_head(fusion, counts)
    if source.startswith('SemanticSegmentor'):
        part = families.semantic_segmentor()
        if source.endswith('SemanticFeatureHead'):
            part.semantic_head = small_cfg.model.semantic_head
        part.semantic_head.merge(counts)
        cfg = families.instance_semantic_fusion('MaskRCNN', part)
    elif source == 'SemanticPredictionFolder':
        part = dict(type='mmbanet.SemanticPredictionFolder', folder=str(folder), **counts)
        cfg = families.instance_semantic_fusion('MaskRCNN', part)
    else:
        cfg = small_cfg.model
        if source == 'PanopticFPNHead':
            cfg = plain_panoptic_fpn(small_cfg, 'mmbanet.BANet').model
        elif source == 'SemanticFeatureHead':
            cfg.pop('i2s_head')
        else:
            cfg.i2s_head.num_classes = things + STUFF
        set_counts(cfg, counts)
    instances = cfg.get('instance_model', cfg)
    if 'instance_model' in cfg:
        set_counts(instances, counts)
    instances.test_cfg.rcnn.score_thr = 1.0
    cfg.panoptic_fusion_head = ConfigDict(head)
    cfg.test_cfg.panoptic = ConfigDict(settings)
    return MODELS.build(cfg).eval()


def give_logits(model, source, logits, folder):
    """Lets the source predict known logits (C, h, w), or labels (H, W)."""
    if source == 'SemanticPredictionFolder':
        Image.fromarray(logits.numpy().astype(np.uint8)).save(folder / '0.png')
        return
    path = 'i2s_head' if source == 'I2SHead' else 'semantic_head'
    if source.startswith('SemanticSegmentor'):
        path = f'semantic_model.{path}'
    model.get_submodule(path).conv_logits.forward = lambda _: logits[None]


def known_semantics(source, things):
    """Logits of a source, or the labels of a file, and the labels (H, W) that they mean."""
    void = things + STUFF
    if source == 'SemanticPredictionFolder':
        labels = torch.randint(void + 1, (8, 12)).repeat_interleave(8, 0).repeat_interleave(8, 1)
        return labels, labels
    meaning = {
        'first': list(range(void)),
        'last': [*range(things, void), void],
    }[SOURCES[source]]
    logits = torch.randn(len(meaning), 16, 24)
    resized = F.interpolate(logits[None], size=SIZE, mode='bilinear')[0]
    return logits, torch.tensor(meaning)[resized.argmax(0)]


@torch.no_grad()
def predict(model):
    return model.predict(torch.randn(1, 3, *SIZE), [make_sample(*SIZE, num_things=0)])[0]


def check_labels(found, expected, void):
    assert expected.unique().numel() >= 3
    assert found.shape == (1, *SIZE)
    assert (found[0] != expected).float().mean() < 0.002  # rounding
    assert found.max() <= void


@pytest.mark.parametrize('things', [1, 8])
@pytest.mark.parametrize('fusion', FUSIONS)
@pytest.mark.parametrize('source', SOURCES)
def test_labels_of_every_source_behind_every_fusion_head(
    small_cfg, tmp_path, source, fusion, things
):
    if fusion == 'HeuristicFusionHead' and source.startswith(('SemanticP', 'SemanticSeg')):
        with pytest.raises(TypeError, match='order=None it is the heuristic'):
            detector(small_cfg, source, fusion, things, tmp_path)
        return
    model = detector(small_cfg, source, fusion, things, tmp_path)
    logits, labels = known_semantics(source, things)
    give_logits(model, source, logits, tmp_path)
    result = predict(model)
    void = things + STUFF
    check_labels(result.pred_sem_seg.sem_seg, labels, void)
    stuff = torch.where(labels < things, void, labels)  # no instance owns a thing pixel
    check_labels(result.pred_panoptic_seg.sem_seg, stuff, void)


@pytest.mark.parametrize('things', [1, 8])
def test_features_of_all_classes_in_a_detector_of_mmdet(small_cfg, things):
    """Its detectors ask the semantic head for the logits that its fusion head takes."""
    counts = dict(num_things_classes=things, num_stuff_classes=STUFF)
    cfg = plain_panoptic_fpn(small_cfg, 'PanopticFPN').model
    cfg.semantic_head = small_cfg.model.semantic_head
    set_counts(cfg, counts)
    cfg.test_cfg.rcnn.score_thr = 1.0
    cfg.test_cfg.panoptic.stuff_area_limit = 0
    model = MODELS.build(cfg).eval()
    logits, labels = known_semantics('SemanticFeatureHead', things)
    give_logits(model, 'SemanticFeatureHead', logits, None)
    stuff = torch.where(labels < things, things + STUFF, labels)
    check_labels(predict(model).pred_panoptic_seg.sem_seg, stuff, things + STUFF)


class OfAllClasses(torch.nn.Module):
    """A fusion head as a user may write it."""

    def __init__(self, num_things_classes, num_stuff_classes, test_cfg, **attributes):
        super().__init__()
        self.num_things_classes, self.num_stuff_classes = num_things_classes, num_stuff_classes
        self.num_classes = num_things_classes + num_stuff_classes
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ('source', 'changes', 'error', 'message'),
    [
        (
            'PanopticFPNHead',
            {'panoptic_fusion_head': dict(type=OfAllClasses, semantic_layout='all')},
            ValueError,
            'panoptic_fusion_head: OfAllClasses takes .* all classes, but semantic_head, Panoptic',
        ),
        (
            'SemanticFeatureHead',
            {'panoptic_fusion_head': dict(type=OfAllClasses)},
            TypeError,
            'OfAllClasses must say what the channels',
        ),
        (
            'SemanticFeatureHead',
            {'semantic_head': dict(num_stuff_classes=7)},
            ValueError,
            'semantic_head.num_stuff_classes: 7, but panoptic_fusion_head has 5 ',
        ),
        (
            'I2SHead',
            {'i2s_head': dict(num_classes=12)},
            ValueError,
            r'i2s_head.num_classes: 12, but panoptic_fusion_head has 13 \(8 thing and 5 stuff',
        ),
        (
            'PanopticFPNHead',
            {'panoptic_fusion_head': dict(num_things_classes=0)},
            ValueError,
            'panoptic_fusion_head.num_things_classes: instances need at least one thing class',
        ),
    ],
)
def test_parts_that_do_not_understand_each_other(small_cfg, source, changes, error, message):
    cfg = small_cfg.model
    if source == 'PanopticFPNHead':
        cfg = plain_panoptic_fpn(small_cfg, 'mmbanet.BANet').model
    if source != 'I2SHead':
        cfg.i2s_head = None
    cfg.merge(changes)
    with pytest.raises(error, match=message):
        MODELS.build(cfg)


@pytest.mark.parametrize('source', ['SemanticFeatureHead', 'SemanticPredictionFolder'])
def test_no_thing_class_is_refused(small_cfg, tmp_path, source):
    with pytest.raises(ValueError, match='at least one thing class, got 0'):
        detector(small_cfg, source, 'score', 0, tmp_path)


@pytest.mark.parametrize('things', [1, 2])
def test_things_alone(small_cfg, things):
    """Without stuff everything that is no instance is void."""
    cfg = small_cfg.model
    set_counts(cfg, dict(num_things_classes=things, num_stuff_classes=0))
    cfg.i2s_head.num_classes = things
    cfg.test_cfg.rcnn.score_thr = 1.0
    result = predict(MODELS.build(cfg).eval())
    assert (result.pred_sem_seg.sem_seg < things).all()
    assert (result.pred_panoptic_seg.sem_seg == things).all()
