"""Hooks and loops of trainings and tests."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .class_count_hook import ClassCountHook
from .file_check_hook import FileCheckHook
from .finite_loss_hook import FiniteLossHook
from .placed_training import PlacedTrainLoop, PlaceSeedHook

__all__ = [
    'AtomicCheckpointHook',
    'ClassCountHook',
    'FileCheckHook',
    'FiniteLossHook',
    'PlaceSeedHook',
    'PlacedTrainLoop',
]
