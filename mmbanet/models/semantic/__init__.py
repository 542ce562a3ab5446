"""Semantics: the heads of BANet and AUNet, other sources of class maps, and uses of logits."""

from .attention_semantic_head import AttentionSemanticHead
from .i2s_head import I2SHead
from .semantic_feature_head import SemanticFeatureHead
from .semantic_model import SemanticModel
from .semantic_prediction_folder import SemanticPredictionFolder
from .semantic_segmentor import SemanticSegmentor

__all__ = [
    'AttentionSemanticHead',
    'I2SHead',
    'SemanticFeatureHead',
    'SemanticModel',
    'SemanticPredictionFolder',
    'SemanticSegmentor',
]
