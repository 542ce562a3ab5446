"""torch.compile and torch.export, with a number of RoIs that changes from call to call."""

import numpy as np
import pytest
import torch

from .samples import LAYOUTS, small_case


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def with_rois(case, num_rois):
    """The case with its RoIs repeated up to that number."""
    index = torch.arange(num_rois, device=case['rois'].device) % len(case['rois'])
    return {**case, 'input': case['input'][index], 'rois': case['rois'][index]}


class Inlay(torch.nn.Module):
    """The operator between other operations; the sizes of the map are those of ``features``."""

    def __init__(self, operator, case):
        super().__init__()
        self.operator = operator
        self.options = {name: case[name] for name in ('spatial_scale', 'aligned')}

    def forward(self, input, rois, features):
        output = self.operator(
            input.sin(), rois, features.shape[0], features.shape[-2:], **self.options
        )
        return features + output


BACKENDS = ['aot_eager', pytest.param('inductor', marks=pytest.mark.slow)]


def check_same(compiled, module, case, features, layout='contiguous'):
    """Output and gradient of the compiled module, in values and strides."""
    results = []
    for function in (compiled, module):
        input = LAYOUTS[layout](case['input']).requires_grad_()
        output = function(input, case['rois'], features)
        output.square().sum().backward()
        results.append((output, input.grad))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5, check_stride=True)


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('backend', BACKENDS)
def test_compile_with_any_number_of_rois(backend, layout, operator, device):
    """One graph for all numbers of RoIs but 0 and 1, which torch never makes dynamic.

    The first number must not be 5: torch gives equal sizes one symbol, so the number of RoIs would
    be tied to that of their columns, and the next number would compile once more.
    """
    case = small_case(torch.float32, device)
    module = Inlay(operator, case)
    compiled = torch.compile(module, backend=backend, fullgraph=True, dynamic=True)
    features = LAYOUTS[layout](
        torch.ones(case['batch_size'], 2, *case['output_size'], device=device)
    )
    for num_rois in (6, 3, 17, 5, 2, 40):
        with torch._dynamo.config.patch(error_on_recompile=True):
            check_same(compiled, module, with_rois(case, num_rois), features, layout)


@pytest.mark.parametrize('backend', BACKENDS)
def test_compile_with_no_or_one_roi(backend, operator, device):
    """These compile anew, without a graph break."""
    case = small_case(torch.float32, device)
    module = Inlay(operator, case)
    compiled = torch.compile(module, backend=backend, fullgraph=True, dynamic=True)
    features = torch.ones(case['batch_size'], 2, *case['output_size'], device=device)
    for num_rois in (6, 0, 1):
        check_same(compiled, module, with_rois(case, num_rois), features)


@pytest.mark.parametrize('strict', [True, False])
def test_export_with_any_number_of_rois(strict, operator, device):
    case = small_case(torch.float32, device)
    module = Inlay(operator, case)
    features = torch.ones(case['batch_size'], 2, *case['output_size'], device=device)
    num_rois = torch.export.Dim('num_rois')
    program = torch.export.export(
        module,
        (case['input'], case['rois'], features),
        dynamic_shapes=({0: num_rois}, {0: num_rois}, None),
        strict=strict,
    )
    targets = [str(node.target) for node in program.graph.nodes]
    assert sum(target.startswith('mmbanet.roi_') for target in targets) == 1
    tolerance = 1e-5 if device == 'cuda' else 0  # roi_upsample sums with atomics on CUDA
    for count in (5, 2, 23, 1, 0):
        varied = with_rois(case, count)
        arguments = (varied['input'], varied['rois'], features)
        results = program.module()(*arguments), module(*arguments)
        torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.int64])
def test_rois_of_other_dtypes(dtype, operator, device):
    """Compiled and exported as they run eagerly."""
    case = small_case(torch.float32, device)
    case['rois'] = case['rois'].clamp(min=0).round().to(dtype)
    module = Inlay(operator, case)
    features = torch.ones(case['batch_size'], 2, *case['output_size'], device=device)
    check_same(torch.compile(module, backend='aot_eager', fullgraph=True), module, case, features)
    arguments = (case['input'], case['rois'], features)
    exported = torch.export.export(module, arguments).module()
    torch.testing.assert_close(exported(*arguments), module(*arguments))


def test_sizes_of_numpy(operator, device):
    """Compiled without a graph break, as constants."""
    case = small_case(torch.float32, device)
    height, width = map(np.int64, case['output_size'])
    options = {**case, 'batch_size': np.int64(2), 'output_size': (height, width)}
    del options['input']
    compiled = torch.compile(lambda input: operator(input, **options), backend='aot_eager')
    torch.testing.assert_close(compiled(case['input']), operator(**case))


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_trace(operator, device):
    """While a model is traced, sizes of tensors are tensors; the trace keeps their values."""
    case = small_case(torch.float32, device)
    module = Inlay(operator, case)
    features = torch.ones(case['batch_size'], 2, *case['output_size'], device=device)
    arguments = (case['input'], case['rois'], features)
    traced = torch.jit.trace(module, arguments)
    torch.testing.assert_close(traced(*arguments), module(*arguments))
    fewer = with_rois(case, 3)
    arguments = (fewer['input'], fewer['rois'], features)
    torch.testing.assert_close(traced(*arguments), module(*arguments))
