"""Hybrid task cascade whose semantic branch sees the instances, by RoIInlay."""

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.roi_heads import HybridTaskCascadeRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import PixelData


@MODELS.register_module()
class InlayHTCRoIHead(HybridTaskCascadeRoIHead):
    """HTC's RoI head with semantic logits from the semantic features plus inlaid mask features.

    Their boxes are ground truth in training and detections over ``inlay_score_thr`` at inference.
    The sum feeds the new logits only: other heads would learn to read the ground truth from it.
    """

    def __init__(self, *, inlay, inlay_score_thr=0.5, **kwargs):
        super().__init__(**kwargs)
        self.inlay = MODELS.build(inlay)
        self.inlay_score_thr = inlay_score_thr
        channels = self.semantic_head.conv_out_channels
        self.inlay_conv = ConvModule(self.mask_head[-1].conv_out_channels, channels, 1, bias=False)
        self.inlay_logits = torch.nn.Conv2d(channels, self.semantic_head.num_classes, 1)

    def semantic_logits(self, x, semantic_feat, boxes):
        """(N, classes, H, W), given FPN's maps, (N, C, H, W) and N tensors of boxes (K, 4)."""
        rois = bbox2roi(boxes)
        crops = self.mask_roi_extractor[-1](x[: self.mask_roi_extractor[-1].num_inputs], rois)
        crops = crops + self.semantic_roi_extractor([semantic_feat], rois)
        mask_feats = None
        for mask_head in self.mask_head:
            mask_feats = mask_head(crops, mask_feats, return_logits=False)
        inlaid = self.inlay(mask_feats, rois, len(semantic_feat), semantic_feat.shape[-2:])
        return self.inlay_logits(semantic_feat + self.inlay_conv(inlaid))

    def loss(self, x, rpn_results_list, batch_data_samples):
        """One loss more than HTC, which keeps its semantic features; so that head runs again."""
        losses = super().loss(x, rpn_results_list, batch_data_samples)
        boxes = [sample.gt_instances.bboxes for sample in batch_data_samples]
        labels = torch.stack([sample.gt_sem_seg.sem_seg for sample in batch_data_samples])
        logits = self.semantic_logits(x, self.semantic_head(x)[1], boxes)
        return losses | dict(loss_semantic_inlay=self.semantic_head.loss(logits, labels))

    def predict(self, x, rpn_results_list, batch_data_samples, rescale=False):
        """HTC's detections; each sample gets a ``semantic_map`` as well."""
        metas = [sample.metainfo for sample in batch_data_samples]
        feat = self.semantic_head(x)[1]
        results = self.predict_bbox(x, metas, rpn_results_list, self.test_cfg, semantic_feat=feat)
        boxes = [result.bboxes[result.scores > self.inlay_score_thr] for result in results]
        for sample, logits in zip(batch_data_samples, self.semantic_logits(x, feat, boxes)):
            height, width = sample.img_shape
            size = sample.ori_shape if rescale else (height, width)
            logits = F.interpolate(logits[None], sample.batch_input_shape, mode='bilinear')
            logits = F.interpolate(logits[..., :height, :width], size, mode='bilinear')
            sample.semantic_map = PixelData(sem_seg=logits.argmax(dim=1))
        return self.predict_mask(x, feat, metas, results, rescale)
