"""Hooks and loops of trainings and tests."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .class_count_hook import ClassCountHook
from .finite_loss_hook import FiniteLossHook
from .placed_training import PlacedTrainLoop, PlaceSeedHook

__all__ = [
    'AtomicCheckpointHook',
    'ClassCountHook',
    'FiniteLossHook',
    'PlaceSeedHook',
    'PlacedTrainLoop',
]
