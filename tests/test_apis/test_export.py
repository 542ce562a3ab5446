"""The exported model against mmdet's path in torch, and onnxruntime against the exported model."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from mmbanet.apis.export import compare, export_onnx
from mmbanet.apis.exported_model import OUTPUT_NAMES, ExportedModel
from mmbanet.cli.export import main

from ..conftest import CONFIGS, ROOT
from ..test_models.families import narrow, panoptic_fpn, with_cascade

pytest.importorskip('onnxscript', reason='needs the extra mmbanet[onnx]')
onnx = pytest.importorskip('onnx', reason='needs the extra mmbanet[onnx]')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra mmbanet[onnx]')

SCENES = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'
PANOPTIC_FPN = CONFIGS / 'panoptic_fpn' / 'panoptic_fpn_r18_fpn_scenes.py'
DFM = CONFIGS / 'banet' / 'banet_r18_fpn_dfm_scenes.py'
SIM = CONFIGS / 'ablation' / 'banet_r18_fpn_sim_scenes.py'
KINDS = {
    'BANet': lambda: narrow(SCENES),
    'BANet, DFM': lambda: narrow(DFM),
    'SIM alone': lambda: narrow(SIM),
}


def tiny(cfg):
    """With as few channels as there can be."""
    cfg.backbone.merge(dict(base_channels=8, stem_channels=8))
    cfg.neck.in_channels = [8, 16, 32, 64]
    return cfg


def build(cfg):
    """A model that is sure of some boxes, with offsets of its deformable convolutions."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    for name, part in model.named_modules():
        if name.endswith('conv_offset'):
            torch.nn.init.normal_(part.weight, 0, 0.02)
    torch.nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight, 0, 0.5)
    torch.nn.init.normal_(model.roi_head.bbox_head.fc_reg.weight, 0, 0.1)
    return model


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def padded(model, image):
    size = image.shape[:2]
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    inputs = torch.from_numpy(image).permute(2, 0, 1)
    return model.data_preprocessor(dict(inputs=[inputs], data_samples=[sample]), False)


def predicted(model, image):
    """By the model itself, which pads on its own."""
    batch = padded(model, image)
    with torch.no_grad():
        (result,) = model.predict(batch['inputs'], batch['data_samples'], rescale=False)
    return result


class Eager:
    """What onnxruntime is expected to return."""

    def __init__(self, exported):
        self.exported = exported

    def run(self, names, inputs):
        assert names is None
        with torch.no_grad():
            outputs = self.exported(*(torch.from_numpy(inputs[name]) for name in ('image', 'size')))
        return [output.numpy() for output in outputs]


def after_it(session, model, image):
    """What docs/export.md says comes after the exported part."""
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'export.md').read_text(), re.S)
    scope = dict(session=session, fusion_head=model.panoptic_fusion_head, image=image)
    scope.update(np=np, torch=torch, F=F, InstanceData=InstanceData, _do_paste_mask=_do_paste_mask)
    exec(code, scope)
    return scope


@pytest.mark.parametrize('kind', ['BANet', 'BANet, DFM', 'SIM alone'])
@pytest.mark.parametrize('size', [(90, 123), (128, 96)])
def test_it_predicts_what_the_model_predicts(kind, size):
    cfg = KINDS[kind]()
    cfg.test_cfg.rcnn.merge(dict(score_thr=0.2, max_per_img=200))
    cfg.test_cfg.panoptic.score_thr = 0.25
    model = build(cfg)
    image = picture(*size)
    expected = predicted(model, image)
    detections = expected.pred_instances
    found = after_it(Eager(ExportedModel(model)), model, image)
    count = len(detections)
    assert 0 < count < cfg.test_cfg.rcnn.max_per_img
    assert 0 < found['selected'].sum() < count
    tolerance = dict(rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found['boxes'][:count], detections.bboxes, **tolerance)
    torch.testing.assert_close(found['scores'][:count], detections.scores, **tolerance)
    assert found['labels'][:count].tolist() == detections.labels.tolist()
    assert found['boxes'][count:].count_nonzero() == found['scores'][count:].count_nonzero() == 0
    same = found['detections'].masks == detections.masks
    assert same.float().mean() > 0.999
    panoptic = found['panoptic'].sem_seg == expected.pred_panoptic_seg.sem_seg
    assert panoptic.float().mean() > 0.99
    assert expected.pred_panoptic_seg.sem_seg.max() > INSTANCE_OFFSET


def test_mmdets_own_model():
    cfg = panoptic_fpn()
    # Its NMS is over all classes, of which several are likely enough here, with the same box.
    cfg.test_cfg.rcnn.merge(dict(score_thr=0.1, max_per_img=200))
    assert cfg.test_cfg.rcnn.nms.class_agnostic
    model = build(cfg)
    model.roi_head.bbox_head.fc_cls.weight.data *= 0.1
    torch.nn.init.zeros_(model.roi_head.bbox_head.fc_reg.weight)
    image = picture(70, 100)
    batch = padded(model, image)
    with torch.no_grad():
        pyramid = model.extract_feat(batch['inputs'])
        proposals = model.rpn_head.predict(pyramid, batch['data_samples'], rescale=False)
        (detections,) = model.roi_head.predict(pyramid, proposals, batch['data_samples'])
    inputs = F.pad(torch.from_numpy(image).permute(2, 0, 1).float(), (0, 28, 0, 26), value=99)
    with torch.no_grad():
        boxes, _, labels, selected, masks, _ = ExportedModel(model)(
            inputs[None], torch.tensor([70, 100])
        )
    number = len(detections)
    assert number == selected.sum() > 5
    boxes, labels, masks = boxes[:number], labels[:number], masks[:number]
    torch.testing.assert_close(boxes, detections.bboxes, rtol=1e-4, atol=1e-4)
    assert labels.tolist() == detections.labels.tolist()
    pasted, _ = _do_paste_mask(masks[:, None].sigmoid(), boxes, 70, 100, skip_empty=False)
    assert ((pasted >= 0.5) == detections.masks).float().mean() > 0.999


@pytest.mark.slow
def test_onnxruntime_agrees_with_torch_at_other_sizes(tmp_path):
    model = build(tiny(KINDS['BANet, DFM']()))
    export_onnx(model, tmp_path / 'model.onnx')
    exported, session = ExportedModel(model), session_of(tmp_path / 'model.onnx')
    for height, width, padding in ((64, 96, 0), (192, 32, 3), (128, 128, 31)):
        image = 255 * torch.rand(1, 3, height, width)
        size = torch.tensor([height - padding, width - padding])
        differences = compare(exported, session, image, size)
        assert max(differences.values()) < 1e-4
        assert differences['mask_logits'] != 0  # another program
        assert (exported(image, size)[1] > 0).sum() > 5
    domains = {node.domain for node in onnx.load(tmp_path / 'model.onnx').graph.node}
    assert domains <= {'', 'ai.onnx'}
    # Nowhere is a box: everything is empty.
    none = session.run(None, {'image': image.numpy(), 'size': np.array([0, 0])})
    assert [np.count_nonzero(output) for output in none[:4]] == [0, 0, 0, 0]


@pytest.mark.slow
def test_the_command(tmp_path, capsys, monkeypatch):
    """Of mmdet's PanopticFPN."""
    checkpoint, out = tmp_path / 'model.pth', tmp_path / 'new' / 'model.onnx'
    options = ['--cfg-options', 'model.backbone.base_channels=8', 'model.backbone.stem_channels=8']
    options += ['model.neck.in_channels=[8,16,32,64]', 'model.test_cfg.rcnn.score_thr=0.0']
    options += ['model.test_cfg.rcnn.max_per_img=20']
    model = build(tiny(panoptic_fpn()))
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    exports = []
    export = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx,
        'export',
        lambda *args, **named: exports.append(export(*args, **named)) or exports[0],
    )
    main([str(PANOPTIC_FPN), str(checkpoint), '--out', str(out), *options])
    share = re.search(r'by more than (\S+) of its largest value', capsys.readouterr().out)[1]
    assert 0 < float(share) < 1e-4
    session = session_of(out)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata['classes'].splitlines()[0] == 'figure'
    assert metadata['semantic_layout'] == 'stuff_and_things'
    assert [output.name for output in session.get_outputs()] == list(OUTPUT_NAMES)
    assert [path.name for path in out.parent.iterdir()] == ['model.onnx']

    missing = [str(SCENES), str(tmp_path / 'no.pth'), '--out', str(tmp_path / 'no.onnx')]
    with pytest.raises(FileNotFoundError, match='checkpoint not found'):
        main(missing)
    monkeypatch.setattr(torch.onnx, 'export', lambda *args, **named: exports[0])
    model.roi_head.mask_head.conv_logits.weight.data *= 2  # another model than was exported
    with pytest.raises(ValueError, match=r"differs from torch: \{'mask_logits'"):
        export_onnx(model, tmp_path / 'no.onnx')
    assert not (tmp_path / 'no.onnx').exists()


def test_what_is_not_exported_is_refused():
    with pytest.raises(TypeError, match='AttentionSemanticHead looks at masks'):
        ExportedModel(build(narrow(CONFIGS / 'aunet' / 'aunet_r18_fpn_scenes.py')))
    with pytest.raises(TypeError, match=r'can export mmbanet\.BANet and PanopticFPN'):
        ExportedModel(torch.nn.Identity())
    cascade = MODELS.build(with_cascade(narrow(SCENES)))
    with pytest.raises(TypeError, match=r'can export StandardRoIHead .* got CascadeRoIHead'):
        ExportedModel(cascade)
    cfg = narrow(SCENES)
    cfg.test_cfg.rcnn.nms.type = 'soft_nms'
    with pytest.raises(TypeError, match='NMS of type nms, got soft_nms'):
        ExportedModel(build(cfg))
    cfg.test_cfg.rcnn.nms = dict(type='nms', iou_threshold=0.5, max_num=9)
    with pytest.raises(TypeError, match='cannot export NMS with max_num'):
        ExportedModel(build(cfg))
