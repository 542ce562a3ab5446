"""Ground truth in place of intermediate results: the bottleneck analysis of section 4.5."""

from .ground_truth import GroundTruth
from .matching import match_boxes, true_preference
from .oracle_model import OracleModel

__all__ = ['GroundTruth', 'OracleModel', 'match_boxes', 'true_preference']
