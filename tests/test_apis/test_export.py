"""The exported network, which onnxruntime executes, against torch."""

import re

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmbanet.apis.export import ExportedNetwork, compare, export_onnx
from mmbanet.cli.export import main

from ..conftest import CONFIGS
from ..test_models.families import narrow, panoptic_fpn

pytest.importorskip('onnxscript', reason='needs the extra mmbanet[onnx]')
onnx = pytest.importorskip('onnx', reason='needs the extra mmbanet[onnx]')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra mmbanet[onnx]')

SCENES = CONFIGS / 'banet' / 'banet_r18_fpn_scenes.py'


def tiny(cfg):
    """With as few channels as there can be."""
    cfg.backbone.merge(dict(base_channels=8, stem_channels=8))
    cfg.neck.in_channels = [8, 16, 32, 64]
    return cfg


def build(cfg):
    torch.manual_seed(0)
    return MODELS.build(cfg).eval()


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['BANet', 'PanopticFPN'])
def test_agrees_with_torch_at_other_sizes(tmp_path, kind):
    init_default_scope('mmdet')
    model = build(tiny(narrow(SCENES) if kind == 'BANet' else panoptic_fpn()))
    export_onnx(model, tmp_path / 'model.onnx')
    session = session_of(tmp_path / 'model.onnx')
    network = ExportedNetwork(model)
    for count, height, width in ((1, 64, 96), (3, 128, 32)):
        image = 255 * torch.rand(count, 3, height, width)
        differences = compare(network, session, image)
        assert max(differences.values()) < 1e-4
        assert {'p2', 'p6', 'rpn_scores_p2', 'rpn_deltas_p6'} < set(differences)
        assert ('semantic_features' in differences) == (kind == 'BANet')
        assert ('semantic_logits' in differences) == (kind != 'BANet')
        assert differences['p2'] != 0  # another program
    domains = {node.domain for node in onnx.load(tmp_path / 'model.onnx').graph.node}
    assert domains <= {'', 'ai.onnx'}


def test_its_outputs_are_what_the_model_predicts_from():
    """The image as OpenCV reads it in place of the data preprocessor's."""
    model = build(narrow(SCENES))
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=[image]), False)
    with torch.no_grad():
        pyramid = model.extract_feat(batch['inputs'])
        semantic = model.semantic_head(pyramid, with_logits=False)['seg_feats']
        found = ExportedNetwork(model)(image[None].float())
    torch.testing.assert_close(found[0], pyramid[0])
    torch.testing.assert_close(found[-1], semantic)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    checkpoint, out = tmp_path / 'model.pth', tmp_path / 'new' / 'model.onnx'
    options = ['--cfg-options', 'model.backbone.base_channels=8', 'model.backbone.stem_channels=8']
    options += ['model.neck.in_channels=[8,16,32,64]']
    cfg = tiny(narrow(SCENES))
    cfg.roi_head.bbox_head.fc_out_channels = 256
    torch.save(dict(state_dict=build(cfg).state_dict()), checkpoint)
    main([str(SCENES), str(checkpoint), '--out', str(out), *options])
    share = re.search(r'by more than (\S+) of its largest value', capsys.readouterr().out)[1]
    assert 0 < float(share) < 1e-4
    metadata = session_of(out).get_modelmeta().custom_metadata_map
    assert metadata['classes'].splitlines()[0] == 'figure'
    assert metadata['semantic_layout'] == 'all'
    assert [path.name for path in out.parent.iterdir()] == ['model.onnx']
    with pytest.raises(FileNotFoundError, match='checkpoint not found'):
        main([str(SCENES), str(tmp_path / 'no.pth'), '--out', str(tmp_path / 'no.onnx')])
    assert not (tmp_path / 'no.onnx').exists()


def test_what_onnx_does_not_know_is_refused():
    with pytest.raises(TypeError, match='no deformable convolutions, such as semantic_head'):
        ExportedNetwork(build(narrow(CONFIGS / 'banet' / 'banet_r18_fpn_dfm_scenes.py')))
    with pytest.raises(TypeError, match='AttentionSemanticHead looks at masks'):
        ExportedNetwork(build(narrow(CONFIGS / 'aunet' / 'aunet_r18_fpn_scenes.py')))
    with pytest.raises(TypeError, match=r'can export mmbanet\.BANet and PanopticFPN'):
        ExportedNetwork(torch.nn.Identity())


@pytest.mark.slow
def test_a_network_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr('mmbanet.apis.export.TOLERANCE', -1.0)
    with pytest.raises(ValueError, match='differs from torch'):
        export_onnx(build(tiny(panoptic_fpn())), tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())
