"""The front door: from a config and a checkpoint to a model, its predictions and its metrics."""

from .evaluation import evaluate
from .inference import init_model, predict

__all__ = ['evaluate', 'init_model', 'predict']
