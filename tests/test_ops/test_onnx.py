"""What torch.onnx.export makes of the operator, run by onnxruntime."""

import pytest
import torch

from mmbanet.ops import RoIInlay, roi_inlay

from .samples import random_case, small_case

pytest.importorskip('onnx', reason='needs the extra mmbanet[onnx]')
pytest.importorskip('onnxscript', reason='needs the extra mmbanet[onnx]')
onnxruntime = pytest.importorskip('onnxruntime', reason='needs the extra mmbanet[onnx]')


class Inlay(torch.nn.Module):
    """RoIInlay on maps of a fixed size, of which there are ``batch_size``."""

    def __init__(self, case):
        super().__init__()
        self.batch_size = case['batch_size']
        self.inlay = RoIInlay(case['output_size'], case['spatial_scale'], case['aligned'])

    def forward(self, input, rois):
        return self.inlay(input, rois, self.batch_size)


def export(case):
    """A function of (input, rois) that onnxruntime executes, with any number of RoIs."""
    num_rois = torch.export.Dim('num_rois')
    program = torch.onnx.export(
        Inlay(case).eval(),
        (case['input'], case['rois']),
        input_names=['input', 'rois'],
        dynamic_shapes=({0: num_rois}, {0: num_rois}),
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    assert {node.domain for node in model.graph.node} <= {'', 'ai.onnx'}
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )

    def run(input, rois):
        (output,) = session.run(None, {'input': input.numpy(), 'rois': rois.numpy()})
        return torch.from_numpy(output)

    return run


# Any geometry in the most exact type, any type in one geometry.
@pytest.mark.parametrize(
    ('seed', 'dtype'),
    [
        *((seed, torch.float64) for seed in (None, 1, 4, 6)),
        (None, torch.float32),
        (1, torch.float16),
    ],
)
def test_agrees_with_operator(seed, dtype):
    case = small_case(dtype) if seed is None else random_case(seed, dtype)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 2e-3}[dtype]
    torch.testing.assert_close(
        export(case)(case['input'], case['rois']),
        roi_inlay(**case),
        rtol=tolerance,
        atol=tolerance,
    )


@pytest.fixture(scope='module')
def exported():
    """A small case in float32 that is exported once."""
    return export(small_case(torch.float32))


def test_any_number_of_rois(exported):
    case = small_case(torch.float32)
    for count in (0, 1, 3, 40):
        index = torch.arange(count) % len(case['rois'])
        input, rois = case['input'][index], case['rois'][index]
        expected = roi_inlay(**{**case, 'input': input, 'rois': rois})
        torch.testing.assert_close(exported(input, rois), expected, rtol=1e-5, atol=1e-5)


def test_rois_that_are_not_finite_cover_nothing(exported):
    case = small_case(torch.float32)
    case['rois'][0, 1] = torch.nan
    case['rois'][1, 4] = torch.inf
    case['rois'][2, 1:3] = -torch.inf
    case['rois'][2, 3:5] = torch.inf
    torch.testing.assert_close(
        exported(case['input'], case['rois']), roi_inlay(**case), rtol=1e-5, atol=1e-5
    )
