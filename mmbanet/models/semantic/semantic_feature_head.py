"""Semantic features F_S and their logits (BANet, section 3.2 "Extraction of semantic features")."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from torch import Tensor, nn

from mmbanet.registry import MODELS

from .logits import merge_things, roi_semantic_loss, semantic_loss


@MODELS.register_module()
class SemanticFeatureHead(BaseSemanticHead):
    """One subnet of 3x3 convs shared by all pyramid levels, upsampled and concatenated: F_S.

    The design follows UPSNet, which the paper cites. All classes are predicted: things first, then
    stuff, as in mmdet's labels.

    Args:
        num_things_classes: Number of thing classes.
        num_stuff_classes: Number of stuff classes.
        in_channels: Channels of every pyramid level.
        feat_channels: Output channels of the subnet's convs, one entry each.
        num_levels: Pyramid levels used, from the finest on. F_S has their summed channels and the
            finest level's stride.
        conv_cfg: Convolution type; ``dict(type='mmbanet.DeformConv2dPack')`` is the paper's
            deformable variant (DFM).
        norm_cfg: Normalisation between each conv and its ReLU: that of mmdet's panoptic head. None:
            convs with a bias and no normalisation, as in UPSNet.
        loss_seg: Loss of the logits; its ``loss_weight`` is the paper's lambda_s. Without
            ``avg_non_ignore=True`` that would mean less the more of an image is void or padding.
        roi_loss_weight: Of UPSNet's loss inside the annotated boxes (:func:`roi_semantic_loss`), in
            weights of ``loss_seg``; 0 leaves it out.
        init_cfg: MMEngine's initialisation config.
    """

    #: Of the logits' channels, see :func:`~mmbanet.models.semantic.logits.layout_of`.
    semantic_layout = 'all'

    def __init__(
        self,
        *,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        feat_channels: Sequence[int] = (256, 128, 128),
        num_levels: int = 4,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = dict(type='GN', num_groups=32, requires_grad=True),  # noqa: B006
        loss_seg: ConfigType = dict(  # noqa: B006
            type='mmdet.CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.2
        ),
        roi_loss_weight: float = 0.0,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(
            num_classes=num_things_classes + num_stuff_classes, loss_seg=loss_seg, init_cfg=init_cfg
        )
        self.num_things_classes = num_things_classes
        self.num_stuff_classes = num_stuff_classes
        self.num_levels = num_levels
        self.roi_loss_weight = roi_loss_weight
        widths = (in_channels, *feat_channels)
        self.subnet = nn.Sequential(
            *(
                ConvModule(cin, cout, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
                for cin, cout in itertools.pairwise(widths)
            )
        )
        self.conv_logits = nn.Conv2d(num_levels * widths[-1], self.num_classes, 1)

    def init_weights(self) -> None:
        """Small logits at the start, as in mmdet's panoptic head."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, 0, 0.01)
        nn.init.zeros_(self.conv_logits.bias)

    def forward(self, x: Sequence[Tensor], with_logits: bool = True) -> dict[str, Tensor]:
        """Semantic features and logits.

        Args:
            x: Pyramid levels (N, C, H / 2^i, W / 2^i), the finest first; at least ``num_levels``.
            with_logits: Whether to make the logits, too.

        Returns:
            ``seg_feats``: F_S (N, num_levels * feat_channels[-1], H, W);
            ``seg_preds``: logits (N, num_classes, H, W).
        """
        if len(x) < self.num_levels:
            raise ValueError(f'x: expected at least {self.num_levels} pyramid levels, got {len(x)}')
        size = x[0].shape[-2:]
        levels = [self.subnet(level) for level in x[: self.num_levels]]
        levels[1:] = [
            F.interpolate(level, size=size, mode='bilinear', align_corners=False)
            for level in levels[1:]
        ]
        seg_feats = torch.cat(levels, dim=1)
        if not with_logits:
            return dict(seg_feats=seg_feats)
        return dict(seg_feats=seg_feats, seg_preds=self.conv_logits(seg_feats))

    def predict(
        self, x: Sequence[Tensor], batch_img_metas: list[dict], rescale: bool = False
    ) -> list[Tensor]:
        """Logits (S + 1, h, w) of each image, for detectors of mmdet: all things as one class.

        Its detectors hand these to fusion heads that take no others; BANet takes :meth:`forward`'s.
        """
        logits = super().predict(x, batch_img_metas, rescale)
        return [merge_things(item, self.num_things_classes) for item in logits]

    def loss(self, x: Sequence[Tensor], batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Loss from the pyramid, for detectors that do not share F_S."""
        return self.loss_by_feat(self(x)['seg_preds'], batch_data_samples)

    def loss_by_feat(self, seg_preds: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """L_seg of equation (5) from logits (N, C, H, W), and UPSNet's ``loss_roi`` if wanted."""
        losses = dict(loss_seg=semantic_loss(self.loss_seg, seg_preds, batch_data_samples))
        if self.roi_loss_weight:
            inside = roi_semantic_loss(self.loss_seg, seg_preds, batch_data_samples)
            losses['loss_roi'] = self.roi_loss_weight * inside
        return losses
