"""A network of its own for the semantic prediction."""

from collections.abc import Sequence

from mmdet.utils import ConfigType, OptConfigType, OptMultiConfig
from torch import Tensor, nn

from mmbanet.registry import MODELS

from .logits import label_maps, layout_of
from .semantic_model import SemanticModel


@MODELS.register_module()
class SemanticSegmentor(SemanticModel):
    """Backbone, neck and semantic head, with the parameter names that mmdet's detectors have.

    So ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes the semantic part of an unchanged
    checkpoint of mmdet's ``PanopticFPN`` or of ``mmbanet.BANet`` (the semantic head's own
    prediction, before I2S); this is also how to train one.

    Args:
        backbone: Config of a backbone.
        neck: Config of a neck such as ``FPN``; None: the head looks at the backbone.
        semantic_head: Config of mmdet's ``PanopticFPNHead`` or of ``mmbanet.SemanticFeatureHead``.
        init_cfg: MMEngine's initialisation config.
    """

    def __init__(
        self,
        backbone: ConfigType,
        semantic_head: ConfigType,
        neck: OptConfigType = None,
        init_cfg: OptMultiConfig = None,
    ) -> None:
        head = MODELS.build(semantic_head)
        if not (hasattr(head, 'num_things_classes') and hasattr(head, 'num_stuff_classes')):
            raise TypeError(
                'semantic_head: expected a head of things and stuff such as PanopticFPNHead or '
                f'mmbanet.SemanticFeatureHead, got {type(head).__name__}'
            )
        super().__init__(head.num_things_classes, head.num_stuff_classes, init_cfg)
        self.backbone = MODELS.build(backbone)
        self.neck = nn.Identity() if neck is None else MODELS.build(neck)
        self.semantic_head = head
        self.semantic_layout = layout_of(head)

    def predict(
        self, batch_inputs: Tensor, img_metas: Sequence[dict], rescale: bool
    ) -> list[Tensor]:
        """See :meth:`SemanticModel.predict`."""
        logits = self.semantic_head(self.neck(self.backbone(batch_inputs)))['seg_preds']
        return label_maps(logits, img_metas, rescale, self.num_things_classes, self.semantic_layout)
