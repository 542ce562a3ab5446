"""AUNet's background branch: PanopticFPN's, guided by the foreground (arXiv 1812.03904).

RPN features P_i --- PAM on level i --+
FPN level i --------------------------+- convs, upsampling - sum - S - MAM - F_S - logits
masks of boxes - RoIUpsample - U ----------------------------------------+

Shapes: N images, K boxes, level i and P_i (N, C, H_i, W_i), S and U at stride 4, (N, C_s, H, W).
"""

from collections.abc import Sequence

from mmdet.models.seg_heads import PanopticFPNHead
from mmdet.structures import SampleList
from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from torch import Tensor, nn

from mmbanet.ops import RoIUpsample
from mmbanet.registry import MODELS

from .background_attention import BackgroundAttention
from .logits import LAYOUTS, semantic_loss

STRIDE = 4  # of S, whichever levels make it
MASK_SOURCES = ('scores', 'features')


@MODELS.register_module()
class AttentionSemanticHead(PanopticFPNHead):
    """mmdet's ``PanopticFPNHead`` with proposal and mask attention (PAM, MAM); either may be None.

    Both reweight semantic features by :class:`BackgroundAttention`. Parameters that it shares with
    ``PanopticFPNHead`` have the same names. For :class:`~mmbanet.models.BANet`, which hands over
    what the head's ``needs_...`` say. The paper leaves open which settings it has.

    Args:
        num_things_classes: T.
        num_stuff_classes: S.
        in_channels: Channels of every pyramid level.
        inner_channels: C_s.
        num_levels: Pyramid levels used, from the finest on.
        conv_cfg, norm_cfg: Of the branch's convolutions.
        semantic_layout: Of the logits, see :func:`~mmbanet.models.semantic.logits.layout_of`.
        pam: Settings of one :class:`BackgroundAttention` a level, on the level before its
            convolutions: ``foreground_channels`` (the RPN's ``feat_channels``), ``kernel_size``,
            ``per_channel``, ``se_ratio``.
        mam: The same of the one on the levels' sum, with ``source`` in place of
            ``foreground_channels``: ``'scores'``, one channel, the sigmoid of each box's mask
            logits; or ``'features'``, what the mask head's predictor sees, with its
            ``foreground_channels``.
        loss_seg: Loss of the logits. Without ``avg_non_ignore=True`` it would mean less the more of
            an image is void or padding.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        *,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        inner_channels: int = 128,
        num_levels: int = 4,
        conv_cfg: OptConfigType = None,
        norm_cfg: OptConfigType = dict(type='GN', num_groups=32, requires_grad=True),  # noqa: B006
        semantic_layout: str = 'stuff_and_things',
        pam: dict | None = dict(foreground_channels=256),  # noqa: B006
        mam: dict | None = dict(source='scores'),  # noqa: B006
        loss_seg: ConfigType = dict(  # noqa: B006
            type='mmdet.CrossEntropyLoss', ignore_index=255, avg_non_ignore=True, loss_weight=0.3
        ),
        init_cfg: OptMultiConfig = None,
    ) -> None:
        super().__init__(
            num_things_classes=num_things_classes,
            num_stuff_classes=num_stuff_classes,
            in_channels=in_channels,
            inner_channels=inner_channels,
            end_level=num_levels,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            loss_seg=loss_seg,
            init_cfg=init_cfg,
        )
        if semantic_layout not in LAYOUTS:
            raise ValueError(f'semantic_layout must be one of {LAYOUTS}, got {semantic_layout!r}')
        self.semantic_layout = semantic_layout
        if semantic_layout == 'all':
            self.num_classes = num_things_classes + num_stuff_classes
            self.conv_logits = nn.Conv2d(inner_channels, self.num_classes, 1)
        self.pam = self.mam = self.mask_source = None
        if pam is not None:
            self.pam = nn.ModuleList(
                BackgroundAttention(channels=in_channels, **pam) for _ in range(num_levels)
            )
        if mam is not None:
            settings = dict(mam)
            self.mask_source = settings.pop('source', 'scores')
            if self.mask_source not in MASK_SOURCES:
                raise ValueError(
                    f'mam.source must be one of {MASK_SOURCES}, got {self.mask_source!r}'
                )
            if self.mask_source == 'scores':
                settings['foreground_channels'] = 1
            elif 'foreground_channels' not in settings:
                raise ValueError(
                    "mam.foreground_channels: source='features' needs the channels of the mask "
                    'head, such as 256, got none'
                )
            self.mam = BackgroundAttention(channels=inner_channels, **settings)
            # The mean of what reaches a pixel: sums grow with every box on top of another.
            self.roi_upsample = RoIUpsample(spatial_scale=1 / STRIDE, reduction='mean')

    @property
    def needs_rpn_features(self) -> bool:
        """Whether ``rpn_features`` are wanted."""
        return self.pam is not None

    @property
    def needs_mask_logits(self) -> bool:
        """Whether ``masks`` are wanted and are logits."""
        return self.mask_source == 'scores'

    @property
    def needs_mask_features(self) -> bool:
        """Whether ``masks`` are wanted and are features."""
        return self.mask_source == 'features'

    def forward(
        self,
        x: Sequence[Tensor],
        rpn_features: Sequence[Tensor] | None = None,
        masks: Tensor | None = None,
        rois: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Semantic features and logits.

        Args:
            x: Pyramid levels (N, C, H / 2^i, W / 2^i), the finest first; at least ``num_levels``.
            rpn_features: Of PAM: the RPN's, behind its ReLU, of the same levels.
            masks: Of MAM: the mask head's output of each box, logits of its class (K, 1, m, m) or
                features (K, C, m, m).
            rois: Of MAM: (K, 5): image index, x1, y1, x2, y2 in pixels of the network's input.

        Returns:
            ``seg_feats``: F_S (N, inner_channels, H, W); ``seg_preds``: logits (N, classes, H, W).
        """
        self._check_inputs(x, rpn_features, masks, rois)
        size = x[0].shape[-2:]
        semantic = 0
        for i, layer in enumerate(self.conv_upsample_layers):
            level = x[i] if self.pam is None else self.pam[i](x[i], rpn_features[i])
            # Of a pyramid of odd sizes, upsampling gives a row or column too many.
            semantic = semantic + layer(level)[..., : size[0], : size[1]]
        if self.mam is not None:
            crops = masks.sigmoid() if self.needs_mask_logits else masks
            semantic = self.mam(semantic, self.roi_upsample(crops, rois, len(semantic), size))
        return dict(seg_feats=semantic, seg_preds=self.conv_logits(semantic))

    def loss_by_feat(self, seg_preds: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """L_seg from logits (N, classes, H, W)."""
        merged = self.num_things_classes if self.semantic_layout == 'stuff_and_things' else 0
        return dict(loss_seg=semantic_loss(self.loss_seg, seg_preds, batch_data_samples, merged))

    def _check_inputs(
        self,
        x: Sequence[Tensor],
        rpn_features: Sequence[Tensor] | None,
        masks: Tensor | None,
        rois: Tensor | None,
    ) -> None:
        if len(x) < self.num_stages:
            raise ValueError(f'x: expected at least {self.num_stages} levels, got {len(x)}')
        if self.pam is not None and len(rpn_features or ()) < self.num_stages:
            raise ValueError(
                f'rpn_features: PAM needs those of {self.num_stages} levels, which mmbanet.BANet '
                f'hands over, got {len(rpn_features or ())}'
            )
        if self.mam is not None and (masks is None or rois is None):
            raise ValueError(
                'masks, rois: MAM needs masks of boxes, which mmbanet.BANet hands over, got None'
            )
