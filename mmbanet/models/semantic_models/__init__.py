"""Separate sources of the semantic prediction, for detectors that have none of their own."""

from .semantic_model import SemanticModel
from .semantic_prediction_folder import SemanticPredictionFolder
from .semantic_segmentor import SemanticSegmentor

__all__ = ['SemanticModel', 'SemanticPredictionFolder', 'SemanticSegmentor']
