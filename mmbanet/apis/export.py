"""The network of a panoptic model as ONNX, up to where detections are selected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from torch import Tensor, nn

from mmbanet.datasets.panoptic_files import write_whole
from mmbanet.models import BANet
from mmbanet.models.semantic.logits import layout_of

# What a float32 network may differ by in another runtime, of the largest value of an output.
TOLERANCE = 1e-3


class ExportedNetwork(nn.Module):
    """All of a two-stage panoptic model that looks at the whole image; what RoIs need is left out.

    Args:
        model: ``mmbanet.BANet`` or mmdet's ``PanopticFPN``.

    Attributes:
        output_names: Of what :meth:`forward` returns.
        stride: Of which height and width of images must be multiples.

    Raises:
        TypeError: The model is of another kind, or has a part that ONNX knows nothing of.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, TwoStagePanopticSegmentor):
            raise TypeError(
                'model: can export mmbanet.BANet and PanopticFPN of mmdet, got '
                f'{type(model).__name__}'
            )
        if isinstance(model, BANet) and model.with_attention:
            raise TypeError(
                f'model: {type(model.semantic_head).__name__} looks at masks, which come after the '
                'detections and are not exported'
            )
        for name, part in model.named_modules():
            if isinstance(part, (DeformConv2d, ModulatedDeformConv2d)):
                raise TypeError(f'model: ONNX has no deformable convolutions, such as {name}')
        self.model = model
        self.with_i2s = isinstance(model, BANet) and model.with_i2s
        self.with_s2i = isinstance(model, BANet) and model.with_s2i
        strides = [stride[0] for stride in model.rpn_head.prior_generator.strides]
        self.stride = strides[-2] if len(strides) > 4 else strides[-1]
        levels = range(2, 2 + len(strides))
        self.output_names = [f'p{level}' for level in levels]
        self.output_names += [f'rpn_scores_p{level}' for level in levels]
        self.output_names += [f'rpn_deltas_p{level}' for level in levels]
        if self.with_i2s or self.with_s2i:
            self.output_names.append('semantic_features')
        if not self.with_i2s:
            self.output_names.append('semantic_logits')
        mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
        self.register_buffer('mean', mean.clone())
        self.register_buffer('std', std.clone())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The pyramid, the RPN's raw outputs at each of its levels, and semantics.

        Args:
            image: (N, 3, H, W) float32, BGR in 0..255, H and W multiples of :attr:`stride`.

        Returns:
            P2, P3, ... (N, C, h, w); of each the objectness (N, A, h, w) and the box deltas
            (N, 4 A, h, w) of its A anchors; F_S (N, C_s, H / 4, W / 4) where S2I or I2S need it;
            the semantic logits (N, classes, H / 4, W / 4) where I2S does not make them.
        """
        if self.model.data_preprocessor._channel_conversion:
            image = image.flip(1)
        pyramid = self.model.extract_feat((image - self.mean) / self.std)
        scores, deltas = self.model.rpn_head(pyramid)
        if isinstance(self.model, BANet):
            semantic = self.model._semantic_outputs(pyramid)
        else:
            semantic = self.model.semantic_head(pyramid)
        outputs = [*pyramid, *scores, *deltas]
        if self.with_i2s or self.with_s2i:
            outputs.append(semantic['seg_feats'])
        if not self.with_i2s:
            outputs.append(semantic['seg_preds'])
        return tuple(outputs)


def export_onnx(model: nn.Module, path: Path) -> dict[str, float]:
    """Writes :class:`ExportedNetwork` as ONNX for any N, H and W, and compares it with torch.

    Args:
        model: In evaluation mode, on the CPU.
        path: Of the file.

    Returns:
        The largest difference of each output at a size that was not exported, as a share of its
        largest value.

    Raises:
        ImportError: The extra ``mmbanet[onnx]`` is not installed.
        TypeError: A model that cannot be exported.
        ValueError: The exported network computes something else.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (of which torch.onnx says less)
    except ImportError as error:
        raise ImportError(
            f"exporting needs the extra mmbanet[onnx]: pip install 'mmbanet[onnx]' ({error})"
        ) from error
    network = ExportedNetwork(model).eval()
    batch, height, width = (torch.export.Dim(name, min=1) for name in ('n', 'h', 'w'))
    shapes = {0: batch, 2: network.stride * height, 3: network.stride * width}
    program = torch.onnx.export(
        network,
        (_image(2, 4 * network.stride, 6 * network.stride),),
        input_names=['image'],
        output_names=network.output_names,
        dynamic_shapes=(shapes,),
        dynamo=True,
        verbose=False,
    )
    content = program.model_proto
    content.metadata_props.add(key='classes', value='\n'.join(_classes(model)))
    content.metadata_props.add(key='semantic_layout', value=layout_of(_maker(model)))
    data = content.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    differences = compare(network, session, _image(1, 5 * network.stride, 3 * network.stride))
    wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}
    if wrong:
        raise ValueError(f'the exported network differs from torch: {wrong}; nothing was written')
    write_whole(path, lambda partial: partial.write_bytes(data))
    return differences


@torch.no_grad()
def compare(network: ExportedNetwork, session: object, image: Tensor) -> dict[str, float]:
    """The largest difference of each output of an ``onnxruntime`` session from the network's.

    As a share of its largest value; inf for one of another shape.
    """
    expected = network(image)
    found = session.run(network.output_names, {'image': image.numpy()})
    return {
        name: _difference(a, b.numpy()) for name, a, b in zip(network.output_names, found, expected)
    }


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float('inf')
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))


def _image(count: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return 255 * torch.rand(count, 3, height, width, generator=generator)


def _maker(model: nn.Module) -> nn.Module:
    """The head that makes the semantic logits that go to fusion."""
    return getattr(model, 'i2s_head', None) or model.semantic_head


def _classes(model: nn.Module) -> Sequence[str]:
    return getattr(model, 'dataset_meta', {}).get('classes', ())
