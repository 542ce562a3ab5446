"""BANet: bidirectional aggregation network for panoptic segmentation (CVPR 2020), figure 2.

image - backbone - FPN -+- RPN ------------------- proposals -+
                        +- semantic head - F_S -+- logits     |
                        |                       |             |
                        +-- P2..P5, F_S --- S2I RoI extractor - box head - detections
                        |                       |            +- mask head - F_ins, masks
                        |                      F_S ---- I2S head: RoIInlay(F_ins) - logits
                        +-- fusion head: masks, scores, logits and the image - panoptic map

Shapes: N images, K boxes, P_i (N, C, H_i, W_i), F_S (N, C_s, H, W) at stride 4, logits (N, classes,
H, W), rois (K, 5) = (image index, x1, y1, x2, y2) in pixels of the network's input.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmdet.models.detectors.panoptic_two_stage_segmentor import TwoStagePanopticSegmentor
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import ConfigType, InstanceList, OptConfigType, OptMultiConfig, PixelList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmbanet.registry import MODELS

from ..fusion import FusionHead, select_detections
from ..roi import S2IRoIExtractor
from ..roi.gt_boxes import sample_gt_boxes
from ..roi.mask_logits import own_features, own_logits, recorded_calls
from ..semantic.logits import label_maps, layout_of, merge_things, resize_logits, resized_logits
from .checks import asks_for, check_parts, last_stage
from .drawing import semantic_prediction
from .img_metas import with_scale_factors, without_padding
from .input_images import rgb_images


@MODELS.register_module()
class BANet(TwoStagePanopticSegmentor):
    """Two-stage panoptic segmentor with the paths S2I and I2S; each may be left out.

    * S2I: an :class:`~mmbanet.models.S2IRoIExtractor` in the RoI head; without it a plain one.
    * I2S: ``i2s_head``; without it the semantic head's own logits go to fusion.
    * Occlusion handling: ``panoptic_fusion_head``; mmdet's ``HeuristicFusionHead`` does as well.

    AUNet's paths from RPN and masks to semantics: ``semantic_head`` as
    :class:`~mmbanet.models.AttentionSemanticHead`, without S2I and I2S.

    With all of them left out this is mmdet's ``PanopticFPN``, parameter by parameter.

    Args:
        i2s_head: Config of the :class:`~mmbanet.models.I2SHead`. With it, ``train_cfg.i2s`` holds
            ``gt_share``, the bounds of the share of ground-truth boxes used in training, and
            ``roi_head.mask_head`` must hand out F_ins (``mmbanet.InstanceFeatureMaskHead``).
        semantic_head: With mask attention, ``train_cfg.mam`` holds ``gt_share`` as for I2S.
        semantic_head, panoptic_fusion_head: Of other packages, they say as ``semantic_layout``
            what the channels of semantic logits mean (:func:`layout_of`).
        train_cfg: With ``fusion_head_only=True`` all but a fusion head with a loss is frozen, in
            evaluation mode: it learns on top of a trained model (``load_from``).
        Others: as mmdet's ``TwoStagePanopticSegmentor``. ``test_cfg.panoptic`` may hold
            ``score_thr`` and ``nms`` (class-agnostic): the detections that go to I2S and to fusion.
    """

    def __init__(
        self,
        *,
        backbone: ConfigType,
        neck: ConfigType,
        rpn_head: ConfigType,
        roi_head: ConfigType,
        semantic_head: ConfigType,
        panoptic_fusion_head: ConfigType,
        i2s_head: OptConfigType = None,
        train_cfg: OptConfigType = None,
        test_cfg: OptConfigType = None,
        data_preprocessor: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        if 'panoptic' not in (test_cfg or {}):
            raise TypeError("test_cfg.panoptic is missing: the fusion head's settings")
        super().__init__(
            backbone=backbone,
            neck=neck,
            rpn_head=rpn_head,
            roi_head=roi_head,
            semantic_head=semantic_head,
            panoptic_fusion_head=panoptic_fusion_head,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.i2s_head: nn.Module | None = MODELS.build(i2s_head) if i2s_head else None
        #: Whether the RoI head looks at F_S.
        self.with_s2i = any(isinstance(part, S2IRoIExtractor) for part in self.roi_head.modules())
        #: Of the logits that go to fusion.
        self.semantic_layout = layout_of(self.i2s_head or self.semantic_head)
        #: Whether all else is frozen.
        self.fusion_head_only = (train_cfg or {}).get('fusion_head_only', False)
        check_parts(self)
        if self.fusion_head_only:
            self.requires_grad_(False)
            self.panoptic_fusion_head.requires_grad_(True)

    @property
    def with_attention(self) -> bool:
        """Whether the semantic head looks at RPN features or at masks."""
        return asks_for(self.semantic_head, 'rpn_features', 'mask_logits', 'mask_features')

    @property
    def with_i2s(self) -> bool:
        """Whether instance features flow back to the semantic logits."""
        return self.i2s_head is not None

    @property
    def with_fusion_loss(self) -> bool:
        """Whether the fusion head has a training loss."""
        return getattr(self.panoptic_fusion_head, 'has_loss', False)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """The seven losses of equation (5), by name, and the fusion head's where it has any.

        Args:
            batch_inputs: (N, 3, H, W), normalised and padded.
            batch_data_samples: Ground truth of each image.
        """
        paths = (self.with_s2i, self.with_i2s, self.with_attention, self.with_fusion_loss)
        if not any(paths):
            return super().loss(batch_inputs, batch_data_samples)
        if self.fusion_head_only:
            return self._fusion_head_loss(batch_inputs, batch_data_samples)

        pyramid = self.extract_feat(batch_inputs)
        semantic = {}
        if hasattr(self.semantic_head, 'loss_by_feat'):
            foreground = self._true_foreground(pyramid, batch_data_samples)
            semantic = self.semantic_head(pyramid, **foreground)
            losses = self.semantic_head.loss_by_feat(semantic['seg_preds'], batch_data_samples)
        else:
            losses = self.semantic_head.loss(pyramid, batch_data_samples)

        rpn_losses, proposals = self._rpn_loss_and_proposals(pyramid, batch_data_samples)
        losses.update(rpn_losses)

        roi_inputs = self._roi_inputs(pyramid, semantic)
        losses.update(self.roi_head.loss(roi_inputs, proposals, batch_data_samples))

        if self.with_i2s:
            gt_boxes = [sample.gt_instances.bboxes for sample in batch_data_samples]
            rois = bbox2roi(sample_gt_boxes(gt_boxes, self.train_cfg.i2s.gt_share))
            instances = self._instance_features(roi_inputs, rois)
            losses.update(
                self.i2s_head.loss(semantic['seg_feats'], instances, rois, batch_data_samples)
            )
        if self.with_fusion_loss:
            instances = self._true_instances(roi_inputs, batch_data_samples)
            logits = semantic.get('seg_preds')
            losses.update(self.panoptic_fusion_head.loss(instances, logits, batch_data_samples))
        return losses

    def _fusion_head_loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """The fusion head's alone, on what the frozen rest gives, as far as it looks at that."""
        head = self.panoptic_fusion_head
        asks = head.loss_needs_logits or asks_for(head, 'mask_logits', 'roi_features')
        semantic, roi_inputs = {}, ()
        with torch.no_grad():
            if asks:
                pyramid = self.extract_feat(batch_inputs)
                if self.with_s2i or head.loss_needs_logits:
                    foreground = self._true_foreground(pyramid, batch_data_samples)
                    semantic = self.semantic_head(pyramid, **foreground)
                roi_inputs = self._roi_inputs(pyramid, semantic)
            instances = self._true_instances(roi_inputs, batch_data_samples)
        return head.loss(instances, semantic.get('seg_preds'), batch_data_samples)

    def train(self, mode: bool = True) -> 'BANet':
        """As ever, but what is frozen stays in evaluation mode."""
        super().train(mode)
        if self.fusion_head_only:
            for part in self.children():
                part.train(mode and part is self.panoptic_fusion_head)
        return self

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections, semantic map and panoptic map of each image.

        Args:
            batch_inputs: (N, 3, H, W), normalised and padded.
            batch_data_samples: Meta information of each image.
            rescale: Results in the size of the original image (True) or of the network's input,
                without padding.

        Returns:
            The samples with ``pred_instances`` (all detections of the RoI head, for AP),
            ``pred_sem_seg.sem_seg`` (1, h, w) labels (the number of classes where a head with one
            channel for all things says thing), and ``pred_panoptic_seg.sem_seg`` (1, h, w) in
            mmdet's panoptic encoding.
        """
        samples = [without_padding(sample) for sample in batch_data_samples]
        img_metas = [sample.metainfo for sample in samples]
        pyramid = self.extract_feat(batch_inputs)
        # Attention looks at the detections: its features are made after them.
        semantic = {} if self.with_attention else self._semantic_outputs(pyramid)
        roi_inputs = self._roi_inputs(pyramid, semantic)

        proposals = self._proposals(pyramid, samples)
        with self._recorded_masks() as (mask_calls, feature_calls):
            detections = self.roi_head.predict(roi_inputs, proposals, samples, rescale=rescale)
        if self.with_i2s or self.with_attention:
            selection = self._select_for_fusion(detections)
            boxes = [item.bboxes[chosen] for item, chosen in zip(detections, selection)]
            rois = bbox2roi(boxes_in_input(boxes, img_metas, rescale))
        if self.with_i2s:
            instances = self._instance_features(roi_inputs, rois)
            del pyramid, roi_inputs  # which would be a fifth of the memory at the peak
            logits = self._i2s_logits(semantic, instances, rois, img_metas)
        elif self.with_attention:
            crops = self._mask_crops(mask_calls, feature_calls, detections)
            crops = [item[chosen] for item, chosen in zip(crops, selection)]
            foreground = self._foreground(pyramid, crops, rois)
            logits = self.semantic_head(pyramid, **foreground)['seg_preds']
        else:
            logits = semantic['seg_preds']

        images = self._images_for_fusion(batch_inputs, img_metas, rescale)
        panoptic = self._fuse(
            batch_data_samples, detections, logits, img_metas, rescale, images, mask_calls
        )
        return self.add_pred_to_datasample(batch_data_samples, panoptic)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        """Raw outputs without post-processing: RPN, RoI head and semantic logits.

        I2S inlays the first 100 proposals of the batch here, as many as the mask head sees, and
        mask attention looks at those.
        """
        pyramid = self.extract_feat(batch_inputs)
        semantic = {} if self.with_attention else self._semantic_outputs(pyramid)
        roi_inputs = self._roi_inputs(pyramid, semantic)
        samples = [without_padding(sample) for sample in batch_data_samples]
        proposals = self._proposals(pyramid, samples)
        with self._recorded_masks() as (mask_calls, feature_calls):
            roi_outputs = self.roi_head(roi_inputs, proposals, samples)
        outputs = (*self.rpn_head(pyramid), *roi_outputs)

        rois = bbox2roi([proposal.bboxes for proposal in proposals])[:100]
        if self.with_attention:
            labels = roi_outputs[0][: len(rois), :-1].argmax(1)
            instances = InstanceData(bboxes=rois[:, 1:], labels=labels)
            crops = self._mask_crops(mask_calls, feature_calls, [instances])
            logits = self.semantic_head(pyramid, **self._foreground(pyramid, crops, rois))
            logits = logits['seg_preds']
        elif self.with_i2s:
            img_metas = [sample.metainfo for sample in samples]
            instances = self._instance_features(roi_inputs, rois)
            logits = self._i2s_logits(semantic, instances, rois, img_metas)
        else:
            logits = semantic['seg_preds']
        return (*outputs, logits)

    def _fuse(
        self,
        data_samples: SampleList,
        detections: InstanceList,
        logits: Tensor,
        img_metas: Sequence[dict],
        rescale: bool,
        images: list[Tensor] | None,
        mask_calls: Sequence[tuple],
    ) -> PixelList:
        """Panoptic maps; detections and semantic maps are put into the samples."""
        labels = label_maps(
            logits, img_metas, rescale, self.num_things_classes, self.semantic_layout
        )
        for sample, instances, label_map in zip(data_samples, detections, labels):
            if len(instances) == 0:  # mmdet gives no masks the original size, rescaled or not
                instances.masks = instances.masks.new_zeros((0, *label_map.shape[1:]))
            sample.pred_instances = instances
            sample.pred_sem_seg = semantic_prediction(label_map, self.num_classes)

        if not isinstance(self.panoptic_fusion_head, FusionHead):
            return self._fuse_as_mmdet(detections, logits, img_metas, rescale)
        semantics = labels
        if self.panoptic_fusion_head.needs_semantic_logits:
            semantics = resized_logits(logits, img_metas, rescale, self.semantic_layout)
        detections = self._with_mask_branch(detections, mask_calls)
        if self.panoptic_fusion_head.needs_scale_factor and rescale:
            detections = with_scale_factors(detections, img_metas)
        return self.panoptic_fusion_head.predict(detections, semantics, images)

    def _semantic_outputs(self, pyramid: Sequence[Tensor]) -> dict[str, Tensor]:
        """F_S, and the semantic head's own logits unless I2S makes better ones, for inference."""
        if self.with_i2s:
            return self.semantic_head(pyramid, with_logits=False)
        return self.semantic_head(pyramid)

    def _roi_inputs(self, pyramid: Sequence[Tensor], semantic: dict) -> Sequence[Tensor]:
        """What the RoI head sees: the pyramid, and with S2I F_S as the last item."""
        return (*pyramid, semantic['seg_feats']) if self.with_s2i else pyramid

    def _rpn_loss_and_proposals(
        self, pyramid: Sequence[Tensor], data_samples: SampleList
    ) -> tuple[dict, InstanceList]:
        """RPN losses, named ``loss_rpn_*``, and the proposals for the RoI head."""
        class_agnostic = copy.deepcopy(data_samples)
        for sample in class_agnostic:
            sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
        proposal_cfg = self.train_cfg.get('rpn_proposal', self.test_cfg.rpn)
        losses, proposals = self.rpn_head.loss_and_predict(
            pyramid, class_agnostic, proposal_cfg=proposal_cfg
        )
        named = {
            name if 'rpn' in name else name.replace('loss', 'loss_rpn'): value
            for name, value in losses.items()
        }
        return named, proposals

    def _proposals(self, pyramid: Sequence[Tensor], data_samples: SampleList) -> InstanceList:
        """The samples' own proposals where they bring any, else the RPN's."""
        if data_samples[0].get('proposals', None) is not None:
            return [sample.proposals for sample in data_samples]
        return self.rpn_head.predict(pyramid, data_samples, rescale=False)

    def _instance_features(self, roi_inputs: Sequence[Tensor], rois: Tensor) -> Tensor:
        """F_ins (K, C, h, w) of boxes, from the mask branch of the RoI head's last stage."""
        extractor = last_stage(self.roi_head.mask_roi_extractor)
        crops = extractor(roi_inputs[: extractor.num_inputs], rois)
        if self.roi_head.with_shared_head:
            crops = self.roi_head.shared_head(crops)
        return last_stage(self.roi_head.mask_head).instance_features(crops)

    def _true_instances(
        self, roi_inputs: Sequence[Tensor], data_samples: SampleList
    ) -> InstanceList:
        """The ground-truth boxes with what the fusion head needs of the mask branch."""
        instances = [
            InstanceData(bboxes=sample.gt_instances.bboxes, labels=sample.gt_instances.labels)
            for sample in data_samples
        ]
        rois = bbox2roi([item.bboxes for item in instances])
        with self._recorded_masks() as (calls, _):
            if self.panoptic_fusion_head.needs_mask_logits and len(rois) > 0:
                self.roi_head._mask_forward(roi_inputs, rois)
        return self._with_mask_branch(instances, calls)

    def _with_mask_branch(self, instances: InstanceList, calls: Sequence[tuple]) -> InstanceList:
        """Instances with what the fusion head needs of the mask branch's calls for them."""
        head = self.panoptic_fusion_head
        if head.needs_mask_logits:
            instances = own_logits(calls, instances)
        if head.needs_roi_features:
            instances = own_features(calls, instances, head.needs_roi_features)
        return instances

    def _true_foreground(self, pyramid: Sequence[Tensor], data_samples: SampleList) -> dict:
        """:meth:`_foreground` of a random part of the ground-truth boxes, with predicted masks."""
        if not asks_for(self.semantic_head, 'mask_logits', 'mask_features'):
            return self._foreground(pyramid, [], None)
        truth = [sample.gt_instances for sample in data_samples]
        chosen = sample_gt_boxes(
            [torch.arange(len(item), device=item.labels.device) for item in truth],
            self.train_cfg.mam.gt_share,
        )
        instances = [
            InstanceData(bboxes=item.bboxes[index], labels=item.labels[index])
            for item, index in zip(truth, chosen)
        ]
        rois = bbox2roi([item.bboxes for item in instances])
        with self._recorded_masks() as (mask_calls, feature_calls):
            if len(rois) > 0:
                self.roi_head._mask_forward(pyramid, rois)
        crops = self._mask_crops(mask_calls, feature_calls, instances)
        return self._foreground(pyramid, crops, rois)

    def _foreground(
        self, pyramid: Sequence[Tensor], crops: Sequence[Tensor], rois: Tensor | None
    ) -> dict:
        """What the semantic head's attention looks at, of :meth:`_mask_crops` and their boxes."""
        head = self.semantic_head
        foreground = {}
        if asks_for(head, 'rpn_features'):
            levels = pyramid[: len(head.pam)]
            foreground['rpn_features'] = [F.relu(self.rpn_head.rpn_conv(x)) for x in levels]
        if asks_for(head, 'mask_logits', 'mask_features'):
            foreground.update(masks=torch.cat(list(crops)), rois=rois)
        return foreground

    def _mask_crops(
        self, mask_calls: Sequence[tuple], feature_calls: Sequence[tuple], instances: InstanceList
    ) -> Sequence[Tensor]:
        """What mask attention looks at, (K, C, m, m) of each image, of recorded calls."""
        head = self.semantic_head
        if asks_for(head, 'mask_logits'):
            return [item.mask_logits[:, None] for item in own_logits(mask_calls, instances)]
        if not asks_for(head, 'mask_features'):
            return []
        if feature_calls:
            features = feature_calls[0][0]
        else:  # no boxes: the mask head was not asked
            channels = self.roi_head.mask_head.conv_logits.in_channels
            features = instances[0].bboxes.new_zeros((0, channels, 1, 1))
        return features.split([len(item) for item in instances])

    @contextmanager
    def _recorded_masks(self) -> Iterator[tuple[list, list]]:
        """Calls of the mask head, and of its predictor, that fusion or attention look at."""
        heads = self.panoptic_fusion_head, self.semantic_head
        masks = any(asks_for(head, 'mask_logits', 'roi_features') for head in heads)
        features = asks_for(self.semantic_head, 'mask_features')
        mask_head = self.roi_head.mask_head
        with recorded_calls(mask_head, masks) as mask_calls:
            predictor = mask_head.conv_logits if features else mask_head
            with recorded_calls(predictor, features) as feature_calls:
                yield mask_calls, feature_calls

    def _i2s_logits(
        self, semantic: dict, instances: Tensor, rois: Tensor, img_metas: Sequence[dict]
    ) -> Tensor:
        """Logits (N, classes, H, W) of F_S with the instance features of boxes inlaid."""
        img_shapes = [meta['img_shape'][:2] for meta in img_metas]
        return self.i2s_head(semantic['seg_feats'], instances, rois, img_shapes)

    def _images_for_fusion(
        self, batch_inputs: Tensor, img_metas: Sequence[dict], rescale: bool
    ) -> list[Tensor] | None:
        """RGB images at the size of the results, where an order rule looks at them."""
        if not asks_for(self.panoptic_fusion_head, 'images'):
            return None
        return rgb_images(batch_inputs, self.data_preprocessor, img_metas, rescale)

    def _fuse_as_mmdet(
        self, detections: InstanceList, logits: Tensor, img_metas: Sequence[dict], rescale: bool
    ) -> PixelList:
        """By one of mmdet's heads, which select nothing and take logits of the results' size."""
        head = self.panoptic_fusion_head
        selection = self._select_for_fusion(detections)
        selected = [item[chosen] for item, chosen in zip(detections, selection)]
        resized = resize_logits(logits, img_metas, rescale)
        if layout_of(head) != self.semantic_layout:
            resized = [merge_things(item, self.num_things_classes) for item in resized]
        return head.predict(selected, resized)

    def _select_for_fusion(self, detections: InstanceList) -> list[Tensor]:
        """Indices of the detections that fusion, and therefore I2S, sees."""
        cfg = self.test_cfg.panoptic
        if 'score_thr' not in cfg:
            return [torch.arange(len(item), device=item.scores.device) for item in detections]
        return [select_detections(item, cfg.score_thr, cfg.get('nms')) for item in detections]


def boxes_in_input(boxes: list[Tensor], img_metas: Sequence[dict], rescaled: bool) -> list[Tensor]:
    """Boxes of detections in pixels of the network's input."""
    if not rescaled:
        return boxes
    return [
        box * box.new_tensor(meta['scale_factor']).repeat(2) for box, meta in zip(boxes, img_metas)
    ]
