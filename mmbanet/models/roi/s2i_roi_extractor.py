"""Semantic-to-instance path, equation (1): F_S2I = phi(crop(F_S)) + crop(P_i)."""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.utils import ConfigType, OptMultiConfig
from torch import Tensor, nn

from mmbanet.registry import MODELS


@MODELS.register_module()
class S2IRoIExtractor(SingleRoIExtractor):
    """RoI features of the pyramid plus the projected semantic features of the same RoI.

    Its input is the pyramid followed by F_S as the last item, which is what
    :class:`~mmbanet.models.detectors.BANet` hands to its RoI head.

    Args:
        roi_layer: RoI layer, used for the pyramid and for F_S: ``mmbanet.RoIAlign``, or one of
            mmcv's by its name alone.
        out_channels: Channels of the pyramid and of the result.
        featmap_strides: Strides of the pyramid levels used.
        finest_scale: Scale threshold of level 0, see mmdet's ``SingleRoIExtractor``.
        semantic_channels: Channels of F_S; by default, as in the paper, twice ``out_channels``.
        semantic_stride: Stride of F_S.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        *,
        roi_layer: ConfigType,
        out_channels: int,
        featmap_strides: Sequence[int],
        finest_scale: int = 56,
        semantic_channels: int | None = None,
        semantic_stride: int = 4,
        init_cfg: OptMultiConfig = dict(  # noqa: B006
            type='Xavier', layer='Conv2d', distribution='uniform'
        ),
    ) -> None:
        super().__init__(
            roi_layer=roi_layer,
            out_channels=out_channels,
            featmap_strides=featmap_strides,
            finest_scale=finest_scale,
            init_cfg=init_cfg,
        )
        self.semantic_stride = semantic_stride
        self.semantic_roi_layer = self.build_roi_layers(roi_layer, [semantic_stride])[0]
        # Without a bias phi commutes with the linear RoI layer, outside the map too.
        self.phi = nn.Conv2d(semantic_channels or 2 * out_channels, out_channels, 1, bias=False)

    def build_roi_layers(
        self, layer_cfg: ConfigType, featmap_strides: Sequence[int]
    ) -> nn.ModuleList:
        """One layer for each stride. mmdet's method looks names up in mmcv only."""
        layer_type = layer_cfg['type']
        if isinstance(layer_type, str) and layer_type.startswith('mmbanet.'):
            layer_cfg = dict(layer_cfg, type=MODELS.get(layer_type))
        return super().build_roi_layers(layer_cfg, featmap_strides)

    @property
    def num_inputs(self) -> int | None:
        """RoI heads call ``extractor(x[:num_inputs], rois)``: None takes all, F_S included.

        For RoI heads that only slice with it, such as the standard and the cascade RoI head.
        """
        return None

    def forward(
        self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Aggregated RoI features F_S2I.

        Args:
            feats: Pyramid levels (N, out_channels, H_i, W_i) and, last, F_S (N, semantic_channels,
                H, W).
            rois: (K, 5): image index, x1, y1, x2, y2 in pixels of the network's input.
            roi_scale_factor: Enlarges the RoIs about their centres.

        Returns:
            (K, out_channels, h, w), with (h, w) the RoI layer's output size.
        """
        *levels, semantic = feats
        if semantic.shape[1] != self.phi.in_channels or len(levels) < len(self.roi_layers):
            raise ValueError(
                f'feats: expected at least {len(self.roi_layers)} pyramid levels and then semantic '
                f'features of {self.phi.in_channels} channels, got '
                f'{[tuple(feat.shape) for feat in feats]}'
            )
        if len(rois) == 0:
            # Keeps F_S in the graph, so that no distributed rank waits for its gradient.
            added = semantic.sum() * 0
        elif roi_scale_factor is None:
            added = self._semantic_crops(semantic, rois)
        else:
            added = self._semantic_crops(semantic, self.roi_rescale(rois, roi_scale_factor))
        # Last, when the projected map is gone, and in place: less memory at the peak.
        used = [_for_roi_layers(level) for level in levels[: len(self.roi_layers)]]
        crops = super().forward(used, rois, roi_scale_factor)
        crops += added
        return crops.to(levels[0].dtype)

    def _semantic_crops(self, semantic: Tensor, rois: Tensor) -> Tensor:
        """phi(crop(F_S)), or phi first where that is less work."""
        height, width = self.semantic_roi_layer.output_size
        positions_in_crops = len(rois) * height * width
        positions_in_map = semantic.shape[0] * semantic.shape[2] * semantic.shape[3]
        # Per position of the crops, cropping F_S costs about as much as phi on the CPU, and
        # cropping what phi makes of it the less the fewer channels that has.
        saved = 1 - self.phi.out_channels / self.phi.in_channels
        if positions_in_crops * (1 + saved) < positions_in_map:
            exact = _for_roi_layers(semantic)
            crops = self.semantic_roi_layer(exact, rois.type_as(exact))
            return self.phi(crops.type_as(semantic))
        # Under autocast phi's output has another dtype than F_S, and mmcv's RoIAlign wants one.
        projected = _for_roi_layers(self.phi(semantic))
        return self.semantic_roi_layer(projected, rois.type_as(projected))

    def map_roi_levels(self, rois: Tensor, num_levels: int) -> Tensor:
        """Pyramid level of each RoI, as mmdet's; its area would overflow in half precision."""
        return super().map_roi_levels(rois.float(), num_levels)


def _for_roi_layers(feats: Tensor) -> Tensor:
    """Features of a dtype that mmcv's RoIAlign has, and that RoIs can be rounded to.

    bfloat16 has multiples of 4 pixels from 512 on, and of 8 from 1024 on.
    """
    return feats.float() if feats.dtype == torch.bfloat16 else feats
