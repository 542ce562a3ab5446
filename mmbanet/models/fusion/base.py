"""What fusion heads ask of the detector beyond detections and label maps."""

from __future__ import annotations

from mmdet.models.seg_heads.panoptic_fusion_heads.base_panoptic_fusion_head import (
    BasePanopticFusionHead,
)


class FusionHead(BasePanopticFusionHead):
    """Base of this package's fusion heads, which says what the detector hands to ``predict``.

    The detector hands out only what is asked for, and refuses a head that asks for what it cannot
    give when it is built.
    """

    #: Whether ``images`` are RGB (3, H, W) in 0..255 at the results' size, else None.
    needs_images: bool = False
    #: Whether detections have ``mask_logits`` (N, m, m): those of their own class in their boxes.
    needs_mask_logits: bool = False
    #: Shape (C, h, w) of the mask branch's RoI features that detections have as ``roi_features``
    #: (N, C, h, w); None: not needed.
    needs_roi_features: tuple[int, int, int] | None = None
    #: Whether detections have ``scale_factor`` (w, h) as meta information: the network's input in
    #: sizes of the results.
    needs_scale_factor: bool = False
    #: Whether semantics are :class:`ResizedLogits`, else label maps (1, H, W).
    needs_semantic_logits: bool = False
    #: The only layout of semantic logits that is taken, see :func:`layout_of`; None: any.
    semantic_layout: str | None = None
    #: Whether ``loss(instances, logits, data_samples)`` is to be called in training.
    has_loss: bool = False
    #: Whether it looks at ``logits``, which need ``mmbanet.SemanticFeatureHead``; None otherwise.
    loss_needs_logits: bool = True

    def loss(self, **kwargs) -> dict:
        """Nothing is learned here."""
        return {}
