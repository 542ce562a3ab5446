"""A panoptic model up to fusion as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmbanet.datasets.panoptic_files import write_whole
from mmbanet.models.semantic.logits import layout_of

from .exported_model import OUTPUT_NAMES, ExportedModel
from .onnx_operators import translations

# What a float32 network may differ by in another runtime, of the largest value of an output.
TOLERANCE = 1e-3


def export_onnx(model: nn.Module, path: Path) -> dict[str, float]:
    """Writes :class:`ExportedModel` as ONNX for any H and W, and compares it with torch.

    Args:
        model: In evaluation mode, on the CPU.
        path: Of the file.

    Returns:
        The largest difference of each output at a size that was not exported, as a share of its
        largest value.

    Raises:
        ImportError: The extra ``mmbanet[onnx]`` is not installed.
        TypeError: A model that cannot be exported.
        ValueError: The exported model computes something else.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (of which torch.onnx says less)
    except ImportError as error:
        raise ImportError(
            f"exporting needs the extra mmbanet[onnx]: pip install 'mmbanet[onnx]' ({error})"
        ) from error
    exported = ExportedModel(model).eval()
    height, width = (torch.export.Dim(name, min=1) for name in ('h', 'w'))
    program = torch.onnx.export(
        exported,
        _inputs(4 * exported.stride, 6 * exported.stride),
        input_names=['image', 'size'],
        output_names=OUTPUT_NAMES,
        dynamic_shapes=({2: exported.stride * height, 3: exported.stride * width}, {}),
        opset_version=19,  # which has DeformConv
        custom_translation_table=translations(),
        dynamo=True,
        verbose=False,
    )
    content = program.model_proto
    content.metadata_props.add(key='classes', value='\n'.join(_classes(model)))
    content.metadata_props.add(key='semantic_layout', value=layout_of(_maker(model)))
    data = content.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    differences = compare(exported, session, *_inputs(5 * exported.stride, 3 * exported.stride))
    wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}
    if wrong:
        raise ValueError(f'the exported model differs from torch: {wrong}; nothing was written')
    write_whole(path, lambda partial: partial.write_bytes(data))
    return differences


@torch.no_grad()
def compare(
    exported: ExportedModel, session: object, image: Tensor, size: Tensor
) -> dict[str, float]:
    """The largest difference of each output of an ``onnxruntime`` session from the model's.

    As a share of its largest value; inf for one of another shape.
    """
    expected = exported(image, size)
    found = session.run(OUTPUT_NAMES, dict(image=image.numpy(), size=size.numpy()))
    return {
        name: _difference(a.astype(float), b.double().numpy())
        for name, a, b in zip(OUTPUT_NAMES, found, expected)
    }


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float('inf')
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))


def _inputs(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Noise, a few pixels of which are padding."""
    generator = torch.Generator().manual_seed(0)
    image = 255 * torch.rand(1, 3, height, width, generator=generator)
    return image, torch.tensor([height - 9, width - 5])


def _maker(model: nn.Module) -> nn.Module:
    """The head that makes the semantic logits that go to fusion."""
    return getattr(model, 'i2s_head', None) or model.semantic_head


def _classes(model: nn.Module) -> Sequence[str]:
    return getattr(model, 'dataset_meta', {}).get('classes', ())
