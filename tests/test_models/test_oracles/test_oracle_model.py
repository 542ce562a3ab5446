"""Each oracle in whole models of several families, with random weights."""

import pytest
import torch
from mmdet.models import StandardRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint, save_checkpoint
from mmengine.structures import InstanceData

from mmbanet.engine.launch import replace_data_root
from mmbanet.models import BANet
from mmbanet.models.oracles.oracle_model import ORACLES

from ...conftest import CONFIGS
from ..families import instance_model, occlusion_aware, panoptic_fpn, with_cascade, with_htc
from .scenes import GROUND, LABELS, SIZE, SKY, full_masks, make_sample, visible_masks, write_dataset

VOID = 13


def small_banet():
    """With the paper's thresholds, which scores of random weights do not pass."""
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py').model
    cfg.test_cfg.panoptic.stuff_area_limit = 1
    return cfg


def small_occlusion_aware():
    return occlusion_aware(panoptic_fpn())


FAMILIES = {
    'BANet': small_banet,
    'PanopticFPN': panoptic_fpn,
    'occlusion-aware': small_occlusion_aware,
    'cascade': lambda: with_cascade(small_occlusion_aware()),
    'HTC': lambda: with_htc(small_occlusion_aware()),
    'HTC with its semantic branch': lambda: with_htc(small_occlusion_aware(), True),
}


def build(cfg, oracles=ORACLES, **kwargs):
    cfg = ConfigDict(type='mmbanet.OracleModel', model=cfg, oracles=oracles, **kwargs)
    model = MODELS.build(cfg).eval()
    model.init_weights()
    return model


@torch.no_grad()
def predict(model, *samples, **kwargs):
    torch.manual_seed(1)
    return model.predict(torch.randn(len(samples), 3, 64, 96), list(samples), **kwargs)


def segments_of(result):
    """{(label, pixels of the segment)} of mmdet's panoptic map, without void."""
    codes = result.pred_panoptic_seg.sem_seg[0]
    segments = {(code % 1000, pixels(codes == code)) for code in codes.unique().tolist()}
    return {(label, where) for label, where in segments if label != VOID}


def true_segments(front_to_back):
    visible = visible_masks(front_to_back)
    free = ~visible.any(0)
    free[:, -1] = False  # without annotation
    sky, ground = free.clone(), free.clone()
    sky[64:], ground[:64] = False, False
    masks = [*visible, sky, ground]
    return {(label, pixels(mask)) for label, mask in zip([*LABELS, SKY, GROUND], masks)}


def pixels(mask):
    return tuple(mask.flatten().nonzero()[:, 0].tolist())


def predict_full_masks(monkeypatch):
    """Lets the mask head find the rectangles, hidden parts included, by their classes and order."""

    def predict_mask(self, x, batch_img_metas, results_list, rescale=False):
        for item in results_list:
            item.masks = full_masks()[: len(item)]
        return results_list

    monkeypatch.setattr(StandardRoIHead, 'predict_mask', predict_mask)


def detect(monkeypatch, boxes, labels, scores):
    """Lets the box head find the given boxes (in pixels of the original image)."""

    def predict_bbox(self, *args, **kwargs):
        return [
            InstanceData(
                bboxes=torch.as_tensor(boxes).float() / 2,
                labels=torch.tensor(labels),
                scores=torch.tensor(scores),
            )
        ]

    monkeypatch.setattr(StandardRoIHead, 'predict_bbox', predict_bbox)


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize('rescale', [True, False])
def test_annotated_boxes_are_the_detections(name, rescale, monkeypatch):
    """All of them and no others, in the results' pixels, whatever their scores."""
    heuristic = name == 'PanopticFPN'
    model = build(FAMILIES[name](), ORACLES[:2] if heuristic else ORACLES)
    head = type(model.model.panoptic_fusion_head)
    seen, fuse = [], head.predict

    def spy(self, detections, *args, **kwargs):
        seen.extend(detections)
        return fuse(self, detections, *args, **kwargs)

    monkeypatch.setattr(head, 'predict', spy)
    things = [(0, 1, 2), (), (2,)]
    samples = [make_sample(things=chosen) for chosen in things]
    boxes = [sample.gt_instances.bboxes.clone() for sample in samples]
    results = predict(model, *samples, rescale=rescale)
    size = SIZE if rescale else (64, 96)
    for result, chosen, box, detections in zip(results, things, boxes, seen):
        torch.testing.assert_close(detections.bboxes, box if rescale else box / 2)
        assert detections.labels.tolist() == [LABELS[k] for k in chosen]
        assert detections.gt_index.tolist() == list(range(len(chosen)))
        assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
        if len(chosen) > 0:
            assert detections.masks.shape == (len(chosen), *size)
            assert detections.scores.max() < 0.6  # the paper's threshold
        if not heuristic:
            taken = result.pred_panoptic_seg.detections
            assert sorted(taken.tolist()) == list(range(len(chosen)))


def test_classes_of_annotated_boxes_are_predicted():
    """The background is none, however probable it is."""
    model = build(small_occlusion_aware(), ['boxes'])
    inner = model.model
    inner.roi_head.bbox_head.fc_cls.bias.data[8] = 5
    (result,) = predict(model, make_sample())
    torch.manual_seed(1)
    with torch.no_grad():
        pyramid = inner.extract_feat(torch.randn(1, 3, 64, 96))
        rois = bbox2roi([make_sample().gt_instances.bboxes / 2])
        logits = inner.roi_head._bbox_forward(pyramid, rois)['cls_score']
    scores, labels = logits.softmax(1)[:, :8].max(1)
    assert torch.equal(result.pred_instances.labels, labels)
    torch.testing.assert_close(result.pred_instances.scores, scores)


def test_annotated_boxes_are_inlaid(monkeypatch):
    """I2S looks at the detections, and so at the annotated boxes."""
    seen = []
    features = BANet._instance_features
    monkeypatch.setattr(
        BANet,
        '_instance_features',
        lambda self, x, rois: seen.append(rois) or features(self, x, rois),
    )
    predict(build(small_banet(), ['semantics']), make_sample())
    predict(build(small_banet(), ['boxes']), make_sample())
    assert [len(rois) for rois in seen] == [0, 3]
    boxes = seen[1][seen[1][:, 1].argsort(), 1:]
    expected = make_sample().gt_instances.bboxes / 2
    torch.testing.assert_close(boxes, expected[expected[:, 0].argsort()])


# Two detections of the first rectangle, one of the second and one of nothing.
DETECTED = [[20, 10, 70, 62], [22, 12, 68, 60], [50, 30, 112, 80], [150, 100, 190, 126]]
CONFIDENT = [0.7, 0.9, 0.8, 0.95]


def test_detections_of_a_thing_have_its_class(monkeypatch):
    detect(monkeypatch, DETECTED, [0, 0, 0, 0], CONFIDENT)
    (plain,) = predict(build(small_banet(), ['semantics']), make_sample())
    (result,) = predict(build(small_banet(), ['classes']), make_sample())
    (strict,) = predict(build(small_banet(), ['classes'], matching_iou=0.95), make_sample())
    assert plain.pred_instances.labels.tolist() == [0, 0, 0, 0]
    assert result.pred_instances.labels.tolist() == [LABELS[0], LABELS[0], LABELS[1], 0]
    assert result.pred_instances.gt_index.tolist() == [0, 0, 1, -1]
    assert strict.pred_instances.gt_index.tolist() == [0, -1, 1, -1]
    assert strict.pred_instances.labels.tolist() == [LABELS[0], 0, LABELS[1], 0]
    assert torch.equal(result.pred_instances.scores, torch.tensor(CONFIDENT))


@pytest.mark.parametrize('front_to_back', [(0, 1, 2), (2, 1, 0)])
def test_pairs_of_detections_of_things_are_ordered_by_the_annotation(front_to_back, monkeypatch):
    """The others by the head's rule. The third box is moved off its thing, but not its mask."""
    boxes = make_sample(front_to_back).gt_instances.bboxes
    boxes[2] += 40
    detect(monkeypatch, boxes, LABELS, [0.7, 0.9, 0.8])
    predict_full_masks(monkeypatch)
    (result,) = predict(build(small_banet(), ['occlusion']), make_sample(front_to_back))
    panoptic = result.pred_panoptic_seg
    assert panoptic.detections.tolist() == [1, 2, 0]
    rules = {
        frozenset(panoptic.detections[pair].tolist()): rule
        for pair, rule in zip(panoptic.occlusion.pairs, panoptic.occlusion.rules)
    }
    assert rules[frozenset({0, 1})] == 'preference'
    assert rules[frozenset({1, 2})] in ('MeanColor', 'score')
    # Detection 0 is the last of the three, detection 1 the first.
    assert bool(panoptic.occlusion.in_front[2, 0]) == (front_to_back == (0, 1, 2))


@pytest.mark.parametrize('family', [small_banet, small_occlusion_aware])
@pytest.mark.parametrize('left_out', [None, 'classes', 'occlusion', 'semantics'])
def test_all_oracles_and_full_masks_give_the_annotation(family, left_out, monkeypatch):
    """Every segment, pixel by pixel; each oracle is needed for it."""
    predict_full_masks(monkeypatch)
    model = build(family(), [oracle for oracle in ORACLES if oracle != left_out])
    right = [
        segments_of(predict(model, make_sample(order))[0]) == true_segments(order)
        for order in [(0, 1, 2), (2, 1, 0)]
    ]
    assert all(right) == (left_out is None)


@pytest.mark.parametrize('name', ['PanopticFPN', 'BANet'])
def test_annotated_semantics_where_there_is_no_thing(name):
    """mmdet's heuristic takes scores, ours labels; thing pixels without a detection are void."""
    (result,) = predict(build(FAMILIES[name](), ['semantics']), make_sample())
    things = visible_masks((0, 1, 2)).any(0)
    codes = result.pred_panoptic_seg.sem_seg[0].long()
    fused = codes >= 1000
    assert (~fused & things).any()
    assert (~fused & ~things).any()
    expected = make_sample().gt_sem_seg.sem_seg[0].masked_fill(things, VOID)
    expected[expected == 255] = VOID
    assert torch.equal(codes[~fused], expected[~fused])


@pytest.mark.parametrize('name', ['BANet', 'PanopticFPN'])
def test_checkpoint_of_the_plain_model(name, tmp_path):
    cfg = FAMILIES[name]()
    plain = MODELS.build(cfg)
    plain.init_weights()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter)
    save_checkpoint(dict(state_dict=plain.state_dict()), str(tmp_path / 'plain.pth'))
    model = build(cfg, ['boxes'])
    load_checkpoint(model, str(tmp_path / 'plain.pth'), strict=True)
    loaded = model.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in plain.state_dict().items())
    model.load_state_dict(model.state_dict(), strict=True)  # its own names load, too

    del plain.roi_head
    save_checkpoint(dict(state_dict=plain.state_dict()), str(tmp_path / 'other.pth'))
    with pytest.raises(RuntimeError, match=r'missing keys in source state_dict: .*roi_head'):
        load_checkpoint(model, str(tmp_path / 'other.pth'), strict=True)


def test_the_model_is_left_as_it_was(monkeypatch):
    model = build(small_banet())
    predict(model, make_sample())
    monkeypatch.setattr(BANet, '_proposals', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(model, make_sample())
    assert 'predict_bbox' not in vars(model.model.roi_head)
    assert 'predict' not in vars(model.model.panoptic_fusion_head)


def test_training_is_refused():
    model = build(small_banet())
    with pytest.raises(NotImplementedError, match='train the model in it with its own config'):
        model(torch.zeros(1, 3, 64, 96), [make_sample()], mode='loss')


def test_raw_outputs_and_features_are_those_of_the_model():
    model = build(small_banet())
    inputs = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model.model(inputs, [make_sample()], mode='tensor')
        given = model(inputs, [make_sample()], mode='tensor')
        assert torch.equal(given[-1], expected[-1])
        assert torch.equal(model.extract_feat(inputs)[0], model.model.extract_feat(inputs)[0])


def score_order():
    cfg = small_banet()
    cfg.panoptic_fusion_head.order = None
    return cfg


def logit_fusion(rule='upsnet'):
    (path,) = (CONFIGS / rule).glob('*[!o]_scenes.py')
    cfg = Config.fromfile(path).model
    cfg.test_cfg.panoptic.stuff_area_limit = 1
    return cfg


@pytest.mark.parametrize('rule', ['upsnet', 'efficientps'])
def test_annotated_boxes_and_classes_go_to_fusion_by_logits(rule, monkeypatch):
    """With the mask logits that the mask head gives the annotated boxes, in their class."""
    model = build(logit_fusion(rule), ['boxes', 'classes'])
    head = type(model.model.panoptic_fusion_head)
    seen, fuse = [], head.predict

    def spy(self, detections, *args, **kwargs):
        seen.extend(detections)
        return fuse(self, detections, *args, **kwargs)

    monkeypatch.setattr(head, 'predict', spy)
    samples = [make_sample(), make_sample(things=())]
    boxes = samples[0].gt_instances.bboxes.clone()
    results = predict(model, *samples)
    torch.testing.assert_close(seen[0].bboxes, boxes)
    assert seen[0].labels.tolist() == LABELS
    assert seen[0].mask_logits.shape == (3, 28, 28)
    assert len(seen[1]) == 0
    assert sorted(results[0].pred_panoptic_seg.detections.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ('family', 'settings', 'error', 'message'),
    [
        (small_banet, dict(oracles=['boxes', 'masks']), ValueError, r"oracles must .*'masks'\]"),
        (small_banet, dict(oracles='boxes'), ValueError, "oracles must be a list .* got 'boxes'"),
        (small_banet, dict(oracles=[]), ValueError, r'oracles must be .* got \[\]'),
        (small_banet, dict(matching_iou=1.5), ValueError, 'matching_iou must be in 0..1, got 1.5'),
        (panoptic_fpn, {}, TypeError, "'occlusion' needs .*FusionHead, got HeuristicFusionHead"),
        (logit_fusion, dict(oracles=['semantics']), TypeError, 'got LogitFusionHead, which weighs'),
        (logit_fusion, dict(oracles=['occlusion']), TypeError, 'needs .* got LogitFusionHead'),
        (score_order, {}, ValueError, 'order must be an order rule .* got None'),
    ],
)
def test_settings_that_cannot_work(family, settings, error, message):
    with pytest.raises(error, match=message):
        build(family(), **settings)


def test_model_of_another_kind():
    """A one-stage detector."""
    with pytest.raises(TypeError, match=r'model: expected a two-stage panoptic .* got SOLOv2'):
        build(instance_model('SOLOv2'), ['boxes'])


def test_image_without_annotation():
    sample = make_sample()
    del sample.gt_instances
    with pytest.raises(ValueError, match='image 7: oracles need its annotation'):
        predict(build(small_banet()), sample)


ROWS = {
    'occlusion': ['occlusion'],
    'boxes': ['boxes'],
    'boxes_classes': ['boxes', 'classes'],
    'boxes_classes_occlusion': ['boxes', 'classes', 'occlusion'],
    'semantics': ['semantics'],
}
BASES = {
    ('banet_r18_fpn_dfm', 'scenes'): 'banet_r18_fpn_dfm_256_scenes.py',
    ('banet_r50_fpn_dfm', '1x_coco'): 'banet_r50_fpn_dfm_1x_coco.py',
}


def test_one_config_for_each_row_of_table_4():
    names = {f'{model}_gt_{row}_{data}.py' for model, data in BASES for row in ROWS}
    assert {path.name for path in (CONFIGS / 'oracles').glob('*.py')} == names


@pytest.mark.parametrize('row', ROWS)
@pytest.mark.parametrize(('model', 'data'), BASES)
def test_configs_differ_from_their_base_in_the_oracles_only(model, data, row):
    cfg = Config.fromfile(CONFIGS / 'oracles' / f'{model}_gt_{row}_{data}.py')
    base = Config.fromfile(CONFIGS / 'banet' / BASES[model, data])
    assert cfg.keys() == base.keys()
    assert {key for key in base if cfg[key] != base[key]} == {'model'}
    assert cfg.model == dict(type='mmbanet.OracleModel', model=base.model, oracles=ROWS[row])
    if data == 'scenes':
        assert MODELS.build(cfg.model).oracles == set(ROWS[row])


def test_config_and_checkpoint_through_the_runner(tmp_path):
    """As tools/test.py does it; the annotated stuff and nothing of it lost to random masks."""
    write_dataset(tmp_path)
    plain = MODELS.build(small_banet())
    plain.init_weights()
    save_checkpoint(dict(state_dict=plain.state_dict()), str(tmp_path / 'plain.pth'))
    cfg = Config.fromfile(CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py')
    cfg.model = dict(type='mmbanet.OracleModel', model=cfg.model, oracles=['semantics'])
    replace_data_root(cfg, str(tmp_path))
    cfg.merge_from_dict(
        dict(
            work_dir=str(tmp_path / 'work'),
            load_from=str(tmp_path / 'plain.pth'),
            test_dataloader=dict(num_workers=0, persistent_workers=False),
            test_evaluator=dict(_delete_=True, **cfg.panoptic_metric),
        )
    )
    cfg.test_evaluator.update(
        ann_file=f'{tmp_path}/annotations/panoptic_val.json',
        seg_prefix=f'{tmp_path}/annotations/panoptic_val/',
    )
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()
    assert metrics['coco_panoptic/PQ_st'] == 100
    assert metrics['coco_panoptic/PQ_th'] == 0
    loaded = runner.model.model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in plain.state_dict().items())
