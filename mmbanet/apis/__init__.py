"""The front door: from a config and a checkpoint to a model, its predictions and its metrics."""

from .evaluation import evaluate
from .inference import init_model, predict, read_image
from .panoptic_inferencer import PanopticInferencer
from .panoptic_result import PanopticResult

__all__ = [
    'PanopticInferencer',
    'PanopticResult',
    'evaluate',
    'init_model',
    'predict',
    'read_image',
]
