"""A two-stage panoptic model up to fusion as one graph, for ONNX."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import (
    DeformConv2d,
    DeformConv2dPack,
    ModulatedDeformConv2d,
    ModulatedDeformConv2dPack,
)
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from mmbanet.models import BANet
from mmbanet.models.roi.s2i_roi_extractor import S2IRoIExtractor
from mmbanet.ops import roi_align

from . import onnx_operators

# Settings of NMS that are exported, or that change nothing.
NMS = ('type', 'iou_threshold', 'iou_thr', 'class_agnostic', 'split_thr')
OUTPUT_NAMES = ('boxes', 'scores', 'labels', 'selected', 'mask_logits', 'semantic_logits')


class ExportedModel(nn.Module):
    """All but fusion of a two-stage panoptic model, for one image, with shapes that are known.

    Where the model has as many proposals and detections as there are, this has as many as there can
    be, of which some are none: their scores are 0 and their boxes empty.

    Args:
        model: ``mmbanet.BANet`` or mmdet's ``PanopticFPN``, in evaluation mode; it is copied.

    Attributes:
        stride: Of which height and width of images must be multiples.

    Raises:
        TypeError: The model is of another kind, or has a part that is not exported.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        _check(model)
        self.model = copy.deepcopy(model)
        for part in self.model.modules():
            if isinstance(part, (DeformConv2dPack, ModulatedDeformConv2dPack)):
                part.forward = _DeformConv(part)
        self.with_i2s = isinstance(model, BANet) and model.with_i2s
        strides = [stride[0] for stride in model.rpn_head.prior_generator.strides]
        self.stride = strides[-2] if len(strides) > 4 else strides[-1]

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Detections and semantic logits.

        Args:
            image: (1, 3, H, W) float32, BGR in 0..255, H and W multiples of :attr:`stride`; the
                picture is at the top left, what is padded does not matter.
            size: (2,) int64, height and width of the picture.

        Returns:
            Of D detections, ``test_cfg.rcnn.max_per_img``, by descending score, boxes (D, 4) in
            pixels of the input, scores (D,), labels (D,) int64, which of them go to fusion (D,)
            bool, and their masks' logits (D, m, m); semantic logits (C, H / s, W / s).
        """
        model = self.model
        pyramid = model.extract_feat(self._normalised(image, size))
        if isinstance(model, BANet):
            semantic = model._semantic_outputs(pyramid)
            roi_inputs = model._roi_inputs(pyramid, semantic)
        else:
            semantic, roi_inputs = model.semantic_head(pyramid), pyramid
        boxes, scores, labels = self._detections(roi_inputs, *self._proposals(pyramid, size), size)
        selected = self._selected(boxes, scores)

        head = model.roi_head
        rois = F.pad(boxes, (1, 0))
        crops = _crops(head.mask_roi_extractor, roi_inputs, rois)
        masks = head.mask_head(crops)
        channel = torch.zeros_like(labels) if head.mask_head.class_agnostic else labels
        masks = masks.gather(1, channel[:, None, None, None].expand(-1, 1, *masks.shape[2:]))[:, 0]
        if self.with_i2s:
            inlaid = rois * selected[:, None]  # the others are empty and cover nothing
            logits = model.i2s_head(
                semantic['seg_feats'],
                head.mask_head.instance_features(crops),
                inlaid,
                [(size[0], size[1])],
            )
        else:
            logits = semantic['seg_preds']
        return boxes, scores, labels, selected, masks, logits[0]

    def _normalised(self, image: Tensor, size: Tensor) -> Tensor:
        """What the data preprocessor makes of it, zero where it is padded."""
        preprocessor = self.model.data_preprocessor
        if preprocessor._channel_conversion:
            image = image.flip(1)
        rows = torch.arange(image.shape[2])[:, None] < size[0]
        columns = torch.arange(image.shape[3]) < size[1]
        return (image - preprocessor.mean) / preprocessor.std * (rows & columns)

    def _proposals(self, pyramid: Sequence[Tensor], size: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (P, 4) and scores (P,) of the RPN, of which -inf is none."""
        head, cfg = self.model.rpn_head, self.model.test_cfg.rpn
        boxes, scores, levels = [], [], []
        for level, (logits, deltas) in enumerate(zip(*head(pyramid))):
            priors = head.prior_generator.single_level_grid_priors(
                logits.shape[-2:], level, logits.dtype, logits.device
            )
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
            score = logits[0].permute(1, 2, 0).sigmoid().flatten()
            # A small level has fewer than are taken.
            priors, deltas = (F.pad(item, (0, 0, 0, cfg.nms_pre)) for item in (priors, deltas))
            score = F.pad(score, (0, cfg.nms_pre), value=-torch.inf)
            score, places = score.topk(cfg.nms_pre)
            decoded = head.bbox_coder.decode(priors[places], deltas[places])
            boxes.append(_clipped(decoded, size))
            scores.append(score)
            levels.append(torch.full_like(score, level))
        boxes, scores = torch.cat(boxes), torch.cat(scores)
        smallest = cfg.get('min_bbox_size', -1)
        if smallest >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > smallest).all(dim=1)
            scores = scores.masked_fill(~large, -torch.inf)
        kept = _kept(boxes, scores, torch.cat(levels), cfg.nms)
        scores, places = scores.masked_fill(~kept, -torch.inf).topk(cfg.max_per_img)
        return boxes[places], scores

    def _detections(
        self, roi_inputs: Sequence[Tensor], proposals: Tensor, objectness: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels, by descending score."""
        head, cfg = self.model.roi_head.bbox_head, self.model.test_cfg.rcnn
        rois = F.pad(proposals, (1, 0))
        crops = _crops(self.model.roi_head.bbox_roi_extractor, roi_inputs, rois)
        logits, deltas = head(crops)
        scores = logits.softmax(dim=-1)[:, :-1]
        classes = scores.shape[1]
        repeated = proposals.repeat_interleave(1 if head.reg_class_agnostic else classes, dim=0)
        boxes = _clipped(head.bbox_coder.decode(repeated, deltas.reshape(-1, 4)), size)
        boxes = boxes.reshape(len(proposals), -1, 4).expand(-1, classes, 4).reshape(-1, 4)
        there = (scores > cfg.score_thr) & (objectness >= 0)[:, None]
        scores = scores.masked_fill(~there, -torch.inf).flatten()
        labels = torch.arange(classes).repeat(len(proposals))
        kept = _kept(boxes, scores, labels, cfg.nms)
        scores, places = scores.masked_fill(~kept, -torch.inf).topk(cfg.max_per_img)
        there = scores >= 0
        return boxes[places] * there[:, None], scores.clamp(min=0), labels[places] * there

    def _selected(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """The detections that go to fusion."""
        cfg = self.model.test_cfg.panoptic
        there = scores > max(cfg.get('score_thr', 0), 0)
        if 'score_thr' not in cfg or not cfg.get('nms'):
            return there
        scores = scores.masked_fill(~there, -torch.inf)
        return onnx_operators.unsuppressed(boxes, scores, _iou_threshold(cfg.nms))


class _DeformConv:
    """What replaces ``forward`` of one of mmcv's packed deformable convolutions."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        offset, mask = layer.conv_offset(x), None
        if isinstance(layer, ModulatedDeformConv2dPack):
            y, x_offset, mask = offset.chunk(3, dim=1)
            offset, mask = torch.cat([y, x_offset], dim=1), mask.sigmoid()
        return onnx_operators.deform_conv(
            x,
            offset,
            mask,
            layer.weight,
            layer.bias if isinstance(layer.bias, Tensor) else None,
            list(layer.stride),
            list(layer.padding),
            list(layer.dilation),
            layer.groups,
            layer.deform_groups,
        )


def _check(model: nn.Module) -> None:
    if not isinstance(model, TwoStagePanopticSegmentor):
        raise TypeError(
            f'model: can export mmbanet.BANet and PanopticFPN of mmdet, got {type(model).__name__}'
        )
    if isinstance(model, BANet) and model.with_attention:
        raise TypeError(
            f'model: {type(model.semantic_head).__name__} looks at masks, which is not exported'
        )
    head = model.roi_head
    if type(head) is not StandardRoIHead or head.with_shared_head:
        raise TypeError(
            f'model: can export StandardRoIHead of mmdet without a shared head, got '
            f'{type(head).__name__}'
        )
    for extractor in (head.bbox_roi_extractor, head.mask_roi_extractor):
        if type(extractor) not in (SingleRoIExtractor, S2IRoIExtractor):
            raise TypeError(f'model: cannot export {type(extractor).__name__}')
    test = model.test_cfg
    for cfg in (test.rpn.nms, test.rcnn.nms, test.panoptic.get('nms')):
        if cfg and cfg.get('type', 'nms') != 'nms':
            raise TypeError(f'model: can export NMS of type nms, got {cfg["type"]}')
        if others := [key for key, value in (cfg or {}).items() if key not in NMS and value]:
            raise TypeError(f'model: cannot export NMS with {", ".join(others)}')
    for name, part in model.named_modules():
        packed = isinstance(part, (DeformConv2dPack, ModulatedDeformConv2dPack))
        if isinstance(part, (DeformConv2d, ModulatedDeformConv2d)) and not packed:
            raise TypeError(f'model: cannot export {type(part).__name__}, which is {name}')


def _crops(extractor: SingleRoIExtractor, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
    """RoI features as of :class:`S2IRoIExtractor`, with a shape that no level decides."""
    layers = extractor.roi_layers
    levels = extractor.map_roi_levels(rois, len(layers))
    crops = 0
    for level, (layer, feat) in enumerate(zip(layers, feats)):
        here = (levels == level).to(rois.dtype)
        # Those of other levels are empty, which costs next to nothing.
        crops = crops + here[:, None, None, None] * _align(layer, feat, rois * here[:, None])
    if isinstance(extractor, S2IRoIExtractor):
        crops = crops + _align(extractor.semantic_roi_layer, extractor.phi(feats[-1]), rois)
    return crops


def _align(layer: nn.Module, feat: Tensor, rois: Tensor) -> Tensor:
    settings = layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
    return roi_align(feat, rois, *settings)


def _clipped(boxes: Tensor, size: Tensor) -> Tensor:
    limit = size.flip(0).repeat(2).to(boxes.dtype)
    return torch.minimum(boxes.clamp(min=0), limit)


def _kept(boxes: Tensor, scores: Tensor, groups: Tensor, cfg: dict) -> Tensor:
    """Which boxes (M,) NMS keeps that compares those of a group alone, as ``mmcv.batched_nms``."""
    there = (scores >= 0)[:, None]
    apart = 0 if cfg.get('class_agnostic') else (boxes * there).max() + 1
    return onnx_operators.unsuppressed(
        boxes + groups.to(boxes.dtype)[:, None] * apart, scores, _iou_threshold(cfg)
    )


def _iou_threshold(cfg: dict) -> float:
    return float(cfg.get('iou_threshold', cfg.get('iou_thr')))
