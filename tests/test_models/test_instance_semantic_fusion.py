import pytest
import torch
from mmdet.structures.mask import mask2bbox
from mmengine.registry import MODELS

from ..conftest import make_sample
from . import families
from .families import COUNTS


def small_cfg(name='MaskRCNN'):
    return families.instance_semantic_fusion(name, families.semantic_segmentor())


def build(cfg):
    model = MODELS.build(cfg).eval()
    model.init_weights()
    return model


@torch.no_grad()
def predict(model, sample, inputs=None, **kwargs):
    inputs = torch.randn(1, 3, 64, 96) if inputs is None else inputs
    return model.predict(inputs, [sample.clone()], **kwargs)[0]


def test_training_is_refused():
    model = build(small_cfg())
    with pytest.raises(NotImplementedError, match='train instance_model and semantic_model sepa'):
        model(torch.zeros(1, 3, 64, 96), [make_sample()], mode='loss')


def test_raw_outputs_are_those_of_the_instance_model():
    model = build(small_cfg())
    inputs, samples = torch.randn(1, 3, 64, 96), [make_sample()]
    with torch.no_grad():
        outputs = model(inputs, samples, mode='tensor')
        expected = model.instance_model(inputs, samples, mode='tensor')
    assert torch.equal(outputs[0][0], expected[0][0])


def test_checkpoints_of_both_parts_are_loaded_when_it_is_built(tmp_path):
    """From checkpoints of whole detectors, as they are; inner ones are not looked for."""
    cfg = small_cfg()
    for key, checkpoint in (
        ('instance_model', build(families.instance_model('MaskRCNN'))),
        ('semantic_model', build(families.panoptic_fpn())),
    ):
        path = tmp_path / f'{key}.pth'
        torch.save(dict(state_dict=checkpoint.state_dict()), path)
        cfg[key].init_cfg = dict(type='Pretrained', checkpoint=str(path))
        cfg[key].backbone.init_cfg = dict(type='Pretrained', checkpoint='/nowhere/backbone.pth')
    model = MODELS.build(cfg)
    model.init_weights()  # what the runner does before training changes nothing
    for key in ('instance_model', 'semantic_model'):
        expected = torch.load(tmp_path / f'{key}.pth')['state_dict']
        loaded = model.get_submodule(key).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


@pytest.mark.parametrize('given', ['instance_model', 'detector', 'both'])
def test_one_data_preprocessor_for_all_parts(given):
    cfg = small_cfg()
    settings = cfg.instance_model.data_preprocessor
    if given != 'instance_model':
        cfg.data_preprocessor = dict(settings, mean=tuple(settings.mean))
    if given == 'detector':
        cfg.instance_model.pop('data_preprocessor')
    preprocessor = MODELS.build(cfg).data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx(settings.mean)
    assert preprocessor.pad_size_divisor == 32


@pytest.mark.parametrize(
    ('name', 'value'), [('mean', [0.0, 0.0, 0.0]), ('bgr_to_rgb', False), ('pad_size_divisor', 1)]
)
def test_data_preprocessors_that_disagree(name, value):
    cfg = small_cfg()
    cfg.data_preprocessor = dict(cfg.instance_model.data_preprocessor, **{name: value})
    with pytest.raises(ValueError, match=rf'instance_model.data_preprocessor: {name} = .* has '):
        MODELS.build(cfg)


def test_padding_of_the_pipeline_is_not_part_of_the_image():
    """mmdet's Pad gives img_shape with its padding, but the original image has none."""
    model = build(small_cfg())
    with torch.no_grad():
        weight = model.semantic_model.semantic_head.conv_logits.weight
        weight.sub_(weight.mean(1, keepdim=True))
    inputs = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 12), size=(64, 96))
    inputs[..., 48:, :] = 0
    results = []
    for img_shape, scale_h in (
        ((48, 96), 48 / 96),
        ((64, 96), 48 / 96),
        ((64, 96), 64 / 96),  # what comes of taking the padding for a part of the image
    ):
        sample = make_sample()
        sample.set_metainfo(
            dict(img_shape=img_shape, ori_shape=(96, 288), scale_factor=(1 / 3, scale_h))
        )
        results.append(predict(model, sample, inputs))
    assert len(results[0].pred_instances) > 0
    for name in ('pred_sem_seg', 'pred_panoptic_seg'):
        without, padded, stretched = (result.get(name).sem_seg for result in results)
        assert torch.equal(without, padded)
        assert not torch.equal(without, stretched)


def test_boxes_of_a_model_without_boxes():
    model = build(small_cfg('SOLOv2'))
    instances = predict(model, make_sample()).pred_instances
    assert len(instances) > 0
    assert instances.bboxes.dtype == torch.float32
    for box, mask in zip(instances.bboxes, instances.masks):
        if mask.any():
            rows, cols = mask.any(1).nonzero(), mask.any(0).nonzero()
            corners = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
            assert box.tolist() == [float(value) for value in corners]
    assert torch.equal(instances.bboxes, mask2bbox(instances.masks))


@pytest.mark.parametrize('name', ['MaskRCNN', 'SOLOv2'])
@pytest.mark.parametrize('rescale', [True, False])
def test_image_without_detections(name, rescale):
    cfg = small_cfg(name)
    test_cfg = cfg.instance_model.test_cfg
    test_cfg.get('rcnn', test_cfg).score_thr = 1.0
    sample = make_sample()
    sample.set_metainfo(dict(ori_shape=(128, 192), scale_factor=(0.5, 0.5)))
    result = predict(build(cfg), sample, rescale=rescale)
    size = (128, 192) if rescale else (64, 96)
    assert len(result.pred_instances) == 0
    assert result.pred_instances.masks.dtype == torch.bool
    assert result.pred_panoptic_seg.sem_seg.shape == (1, *size)
    assert not any(segment['is_thing'] for segment in result.pred_panoptic_seg.segments_info)


def test_model_without_masks():
    cfg = small_cfg()
    cfg.instance_model.type = 'FasterRCNN'
    for key in ('mask_roi_extractor', 'mask_head'):
        cfg.instance_model.roi_head.pop(key)
    with pytest.raises(TypeError, match='instance_model: FasterRCNN predicts no instance masks'):
        predict(build(cfg), make_sample())


def test_masks_of_another_size(monkeypatch):
    model = build(small_cfg())
    whole = model.instance_model.predict

    def halved(*args, **kwargs):
        (result,) = whole(*args, **kwargs)
        result.pred_instances.masks = result.pred_instances.masks[:, ::2]
        return [result]

    monkeypatch.setattr(model.instance_model, 'predict', halved)
    with pytest.raises(ValueError, match=r'MaskRCNN gave masks \(\d+, 32, 96\) .* \(64, 96\)'):
        predict(model, make_sample())


def test_more_classes_than_things():
    cfg = small_cfg()
    for part in (cfg.panoptic_fusion_head, cfg.semantic_model.semantic_head):
        part.update(num_things_classes=2)
    with pytest.raises(ValueError, match=r'object of class \d, but .* num_things_classes = 2'):
        predict(build(cfg), make_sample())


@pytest.mark.parametrize(
    ('overrides', 'error', 'message'),
    [
        (
            dict(panoptic_fusion_head=dict(type='HeuristicFusionHead', **COUNTS)),
            TypeError,
            'panoptic_fusion_head: expected mmbanet.OcclusionAwareFusionHead .* got Heuristic',
        ),
        (
            dict(semantic_model=families.panoptic_fpn()),
            TypeError,
            'semantic_model: expected mmbanet.SemanticSegmentor, .* got PanopticFPN',
        ),
        (
            dict(semantic_model=dict(type='mmbanet.SemanticPredictionFolder', folder='labels')),
            ValueError,
            'num_things_classes: 80 in semantic_model, but 8 in panoptic_fusion_head',
        ),
    ],
)
def test_parts_that_do_not_fit(overrides, error, message):
    cfg = small_cfg()
    for name, part in overrides.items():
        cfg[name] = part
    with pytest.raises(error, match=message):
        MODELS.build(cfg)
