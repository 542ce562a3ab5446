"""Model components; importing this registers all of them."""

from mmbanet.ops import RoIAlign, RoIInlay, RoIUpsample
from mmbanet.registry import MODELS

from .deform_conv import DeformConv2dPack
from .detectors import BANet, InstanceSemanticFusion, PanopticTTAModel
from .fusion import (
    InstanceOcclusionHead,
    LogitFusionHead,
    OcclusionAwareFusionHead,
    SpatialRankingHead,
    resolve_occlusion,
)
from .oracles import OracleModel
from .roi import InstanceFeatureMaskHead, S2IRoIExtractor
from .semantic import (
    AttentionSemanticHead,
    I2SHead,
    SemanticFeatureHead,
    SemanticModel,
    SemanticPredictionFolder,
    SemanticSegmentor,
)

# The ops know nothing of registries, so that they can be used with torch alone.
MODELS.register_module(module=RoIAlign)
MODELS.register_module(module=RoIInlay)
MODELS.register_module(module=RoIUpsample)

__all__ = [
    'AttentionSemanticHead',
    'BANet',
    'DeformConv2dPack',
    'I2SHead',
    'InstanceFeatureMaskHead',
    'InstanceOcclusionHead',
    'InstanceSemanticFusion',
    'LogitFusionHead',
    'OcclusionAwareFusionHead',
    'OracleModel',
    'PanopticTTAModel',
    'RoIAlign',
    'RoIInlay',
    'RoIUpsample',
    'S2IRoIExtractor',
    'SemanticFeatureHead',
    'SemanticModel',
    'SemanticPredictionFolder',
    'SemanticSegmentor',
    'SpatialRankingHead',
    'resolve_occlusion',
]
